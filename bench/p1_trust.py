"""P1, trust: what encrypting columns, blind indexes and the audit add to an intake (issue 3: less than 30 %).

The seal of the package stays on in both: it is the sender's. What is switched off is what the portal adds,
and only here: there is no such switch in the portal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from bench.compare import Comparison, Target, Variant
from bench.p1_intake import RECORDS, Intake
from bench.p9_audit import both_cpu
from bench.world import empty, open_world

OFF = "all three off"


def comparisons() -> Iterator[Comparison]:
    """Take the same package in with trust and without, and with each part of it alone off."""
    open_world("bench_trust")
    intake = Intake()
    clear = partial(empty, ("orders_package", "portal_task"), ("packages", "photos"))
    title = f"intake of {RECORDS:,} records with encrypted columns, blind indexes and audit"
    variants = [
        Variant("ours", "with all three", intake.ours, clear),
        Variant("peer", OFF, partial(_without, intake, (no_encryption, no_indexes, no_audit)), clear),
        Variant("limit", "encryption off", partial(_without, intake, (no_encryption,)), clear),
        Variant("limit", "indexes off", partial(_without, intake, (no_indexes,)), clear),
        Variant("limit", "audit off", partial(_without, intake, (no_audit,)), clear),
    ]
    targets = [Target(OFF, 1 / 1.3)]
    yield Comparison("P1", f"{title}; CPU of both processes", "records", variants, targets, clock=both_cpu())
    yield Comparison("P1", title, "records", variants[:2], targets)


def _without(intake: Intake, parts: tuple[Any, ...]) -> int:
    with ExitStack() as off:
        for part in parts:
            off.enter_context(part())
        return intake.ours()


class Plain:
    """A cipher that does nothing."""

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Return what was given."""
        return plaintext

    def open(self, blob: bytes, context: bytes) -> bytes:
        """Return what was given."""
        return blob


@contextmanager
def no_encryption() -> Iterator[None]:
    """Keep columns and chunks as they are."""
    with (
        mock.patch("portal.files.cipher", return_value=Plain()),
        mock.patch("portal.keyrings.live_cipher", return_value=Plain()),
    ):
        yield


@contextmanager
def no_indexes() -> Iterator[None]:
    """Put the value itself where its index stands, as long as an index is and as different in front."""

    def plain(self: Any, value: str) -> bytes:
        front = hash(value).to_bytes(8, "big", signed=True)
        return front + value.encode("utf-8", "replace")[:24].ljust(24, b"\0")

    with mock.patch("portal.core.crypto.BlindIndex.of", plain):
        yield


@contextmanager
def no_audit() -> Iterator[None]:
    """Write nothing to the chain."""
    with mock.patch("portal.audit._append", return_value=None):
        yield
