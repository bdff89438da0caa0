"""The stations app's part of the API."""
