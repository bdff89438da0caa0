"""Compare our way with what others would write first and with what bounds it, in turns and by medians.

All variants of a comparison run once in each round, so a machine that slows down slows them alike.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["ours", "peer", "limit"]
Work = Callable[[], int]


@dataclass(frozen=True)
class Variant:
    """One way to do the work; `work` does a fixed amount and returns how many units it did.

    `prepare` clears away what the run before left; its time is not counted.
    """

    role: Role
    name: str
    work: Work
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Target:
    """Our rate must be at least `at_least` times the rate of the variant `against`.

    Without a variant it is a rate of its own, in units a second: it says nothing on another machine.
    """

    against: str
    at_least: float


@dataclass(frozen=True)
class Comparison:
    """One measured path: its goal's id, the unit that is counted, the variants and what must hold.

    `clock` is the wall's where a database works too; what this process does alone is measured better by its
    own CPU time, which others on the machine disturb less.
    """

    goal: str
    title: str
    unit: str
    variants: Sequence[Variant]
    targets: Sequence[Target] = ()
    clock: Callable[[], float] = time.perf_counter


Parts = Mapping[str, float]


@dataclass(frozen=True)
class Bound:
    """What a round's parts must keep: a figure made of them, and the most it may be."""

    name: str
    figure: Callable[[Parts], float]
    at_most: float


@dataclass(frozen=True)
class Breakdown:
    """Something long that is done once a round, and where its time goes, part by part."""

    goal: str
    title: str
    unit: str
    once: Callable[[], Parts]
    bounds: Sequence[Bound] = ()


@dataclass
class Rates:
    """Units a second of one variant, one value each round."""

    variant: Variant
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Verdict:
    """A target and the ratio that was reached."""

    target: Target
    ratio: float

    @property
    def holds(self) -> bool:
        return self.ratio >= self.target.at_least


def measure(comparison: Comparison, rounds: int) -> dict[str, Rates]:
    """Run every variant once to warm up, then `rounds` times in turns."""
    found = {variant.name: Rates(variant) for variant in comparison.variants}
    for rates in found.values():
        rates.variant.prepare()
        rates.variant.work()
    for _ in range(rounds):
        for rates in found.values():
            rates.variant.prepare()
            gc.collect()
            begun = comparison.clock()
            units = rates.variant.work()
            rates.values.append(units / (comparison.clock() - begun))
    return found


def broken_down(breakdown: Breakdown, rounds: int) -> list[Parts]:
    """Do the work once to warm up, then `rounds` times; return the parts of each."""
    breakdown.once()
    return [breakdown.once() for _ in range(rounds)]


def verdicts(comparison: Comparison, rates: dict[str, Rates]) -> list[Verdict]:
    """Compare our median with each target's."""
    ours = next(rate for rate in rates.values() if rate.variant.role == "ours").median
    return [
        Verdict(target, ours / rates[target.against].median if target.against else ours)
        for target in comparison.targets
    ]
