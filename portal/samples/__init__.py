"""Invented people, photos, packages and account files for the demo, the tests and the benchmarks."""
