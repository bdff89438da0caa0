"""Business verbs of billing."""
