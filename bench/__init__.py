"""Benchmarks of the speed goals P1 … P10: ratios of medians, measured in one run on one machine."""
