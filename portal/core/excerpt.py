"""A short, visible form of text that came from outside, for the `got` of a finding."""

from __future__ import annotations

LIMIT = 40


def excerpt(text: str, limit: int = LIMIT) -> str:
    """Cut to `limit` characters, add the full length, and spell invisible characters as U+hhhh.

    The cost does not depend on the length of the input.
    """
    shown = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text[:limit])
    if len(text) > limit:
        shown += f"…（共{len(text)}字）"
    return shown
