"""The production app's part of the API."""
