"""What the portal must remember of an issuance between two messages of the agent, sealed (R-45)."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from portal import files
from portal.core.crypto import FieldCipher
from stations.models import Issuance


@dataclass(slots=True, repr=False)
class Memory:
    """The exchange so far: the card's opaque state, what was read back, and where the time went."""

    purpose: str = "issue"
    state: bytes = b""
    readback: bytes = b""
    phases: list[str] = field(default_factory=list)
    write_microseconds: int = 0  # of all commands that do not read
    read_microseconds: int = 0


def load_memory(issuance: Issuance) -> Memory:
    """Open what was kept, or begin anew; raise KeyDestroyedError once the batch is destroyed."""
    if issuance.exchange_sealed is None:
        return Memory()
    opened = _cipher(issuance).open(bytes(issuance.exchange_sealed), _context(issuance, "exchange"))
    values: dict[str, Any] = json.loads(opened)
    for name in ("state", "readback"):
        values[name] = base64.b64decode(values[name])
    return Memory(**values)


def sealed_memory(issuance: Issuance, memory: Memory) -> bytes:
    """Return the memory as it is stored."""
    values: dict[str, Any] = asdict(memory)
    for name in ("state", "readback"):
        values[name] = base64.b64encode(values[name]).decode()
    return _cipher(issuance).seal(json.dumps(values).encode(), _context(issuance, "exchange"))


def sealed_answer(issuance: Issuance, answer: dict[str, Any]) -> bytes:
    """Return an answer as it is kept for an agent that asks again."""
    return _cipher(issuance).seal(json.dumps(answer).encode(), _context(issuance, "answer"))


def kept_answer(issuance: Issuance) -> dict[str, Any]:
    """Open the last answer."""
    assert issuance.answer_sealed is not None
    opened = _cipher(issuance).open(bytes(issuance.answer_sealed), _context(issuance, "answer"))
    answer: dict[str, Any] = json.loads(opened)
    return answer


def _cipher(issuance: Issuance) -> FieldCipher:
    return files.cipher(issuance.batch.key_id)


def _context(issuance: Issuance, column: str) -> bytes:
    return f"stations.issuance/{issuance.pk}/{column}".encode()
