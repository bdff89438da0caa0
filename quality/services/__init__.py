"""Business verbs of quality."""
