"""The demo: an invented programme, run once through from a sealed package to the draft statement."""
