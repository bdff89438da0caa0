"""The billing app's part of the API."""
