"""Verbs of the stations app."""
