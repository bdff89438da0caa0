"""Ways to a card; only pcsc.py may import a driver."""
