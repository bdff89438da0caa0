"""Daemons of a whole process: one pcscd for all modules (libpcsclite reads its address once)."""

from __future__ import annotations

from tests.stations.pcsc import pcscd, plug
from tests.stations.printer import card_printer

__all__ = ["card_printer", "pcscd", "plug"]
