"""Run the benchmarks and print medians, ranges and ratios: `script/bench [P2 …] [--rounds 5] [--check]`."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import bench
from bench.compare import Breakdown, Comparison, broken_down, measure, verdicts

FEWEST_ROUNDS = 5
REPORTED_PACKAGES = ("Django", "cryptography", "gmssl_pyx", "numpy", "pillow", "psycopg", "rustpy-xlsxwriter")


def comparisons(goals: Sequence[str]) -> Iterator[Comparison | Breakdown]:
    """Yield the comparisons of every module `bench/p*.py`, prepared only when their goal is asked for."""
    for found in sorted(pkgutil.iter_modules(bench.__path__), key=lambda module: module.name):
        if not found.name.startswith("p"):
            continue
        goal = found.name.split("_")[0].upper()
        if not goals or goal in goals:
            yield from importlib.import_module(f"bench.{found.name}").comparisons()


def run(found: Comparison | Breakdown, rounds: int) -> bool:
    """Measure and print one path; say whether its targets hold."""
    return run_breakdown(found, rounds) if isinstance(found, Breakdown) else run_comparison(found, rounds)


def run_breakdown(breakdown: Breakdown, rounds: int) -> bool:
    """Measure and print where the time goes; say whether the bounds hold, by their medians."""
    print(f"\n{breakdown.goal}  {breakdown.title}, {breakdown.unit}")
    found = broken_down(breakdown, rounds)

    def line(name: str, values: Sequence[float], end: str = "") -> float:
        median = statistics.median(values)
        print(f"  {name:<50}{median:>10,.2f}  ({min(values):,.2f} … {max(values):,.2f}){end}")
        return median

    for name in found[0]:
        line(name, [parts[name] for parts in found])
    reached = []
    for bound in breakdown.bounds:
        values = [bound.figure(parts) for parts in found]
        holds = statistics.median(values) <= bound.at_most
        line(bound.name, values, f"  (goal <= {bound.at_most:g})  {'reached' if holds else 'MISSED'}")
        reached.append(holds)
    return all(reached)


def run_comparison(comparison: Comparison, rounds: int) -> bool:
    """Measure and print one comparison; say whether its targets hold."""
    clock = "CPU time" if comparison.clock is time.process_time else "wall time"
    print(f"\n{comparison.goal}  {comparison.title}, {clock}")
    rates = measure(comparison, rounds)
    for rate in rates.values():
        spread = f"{min(rate.values):,.1f} … {max(rate.values):,.1f}"
        name = f"{rate.variant.role:<6}{rate.variant.name:<44}"
        print(f"  {name}{rate.median:>14,.1f} {comparison.unit}/s  ({spread})")
    found = verdicts(comparison, rates)
    for verdict in found:
        word = "reached" if verdict.holds else "MISSED"
        target = verdict.target
        what = f"x {target.against}" if target.against else f"{comparison.unit}/s"
        print(f"  {verdict.ratio:8.2f} {what} (goal >= {target.at_least:g})  {word}")
    return all(verdict.holds for verdict in found)


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument(
        "goals", nargs="*", metavar="P1", type=str.upper, help="goals to measure (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    options = parser.parse_args(given)
    if options.rounds < FEWEST_ROUNDS:
        parser.error(f"--rounds: at least {FEWEST_ROUNDS}")
    packages = ", ".join(f"{name} {version(name)}" for name in REPORTED_PACKAGES)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; {packages}")
    print(f"load {os.getloadavg()[0]:.1f}, {options.rounds} rounds; medians, then the range")
    reached = [run(comparison, options.rounds) for comparison in comparisons(options.goals)]
    if not reached:
        parser.error("no benchmark for this goal")
    return int(options.check and not all(reached))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
