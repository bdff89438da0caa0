"""The orders app's part of the API."""
