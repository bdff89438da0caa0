"""Verbs of the production app, one module a subject."""
