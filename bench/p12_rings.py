"""P12: forget a batch of a large package: its ring of keys written anew, against the rest sealed anew."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.compare import Comparison, Target, Variant

ROWS, BATCH, SAMPLE = 100_000, 2_000, 500
PHOTO = os.urandom(16 * 1024)
FIELDS = [os.urandom(size) for size in (18, 9, 220, 19)]
RESEAL = "photo and fields sealed anew"


def comparisons() -> Iterator[Comparison]:
    """Compare rows of a package dealt with a second, at the destruction of one of its fifty batches."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.test import override_settings

    with tempfile.TemporaryDirectory() as name, override_settings(**_folders(Path(name))):
        rings = Rings()
        yield Comparison(
            "P12",
            f"forget {BATCH:,} of {ROWS:,} rows",
            "rows",
            [Variant("ours", "the ring written anew", rings.forget), Variant("peer", RESEAL, rings.reseal)],
            [Target(RESEAL, 200)],
            clock=time.process_time,
        )


def _folders(folder: Path) -> dict[str, Any]:
    from django.conf import settings

    default = settings.STORAGES["default"]
    options = default.get("OPTIONS", {}) | {"location": folder / "files"}
    storages = settings.STORAGES | {"default": default | {"OPTIONS": options}}
    return {"FILES_DIR": folder / "files", "KEYSTORE_DIR": folder / "keys", "STORAGES": storages}


class Rings:
    """A ring of ROWS keys, and what a row costs to open and seal again."""

    def __init__(self) -> None:
        from portal import keyrings
        from portal.core.crypto import FieldCipher, new_key
        from portal.core.keystore import KeyPurpose

        self.undo = ExitStack()  # never closed: the folder goes as a whole
        ring = keyrings.NewRing()
        for slot in range(1, ROWS + 1):
            ring.draw(slot)
        self.keyrings, self.purpose = keyrings, KeyPurpose.PACKAGE
        self.key_id = ring.write(self.purpose, "bench", self.undo)
        self.old, self.new = (FieldCipher(new_key()) for _ in range(2))
        self.sealed = [self.old.seal(value, b"context") for value in (PHOTO, *FIELDS)]
        self.at = 1

    def forget(self) -> int:
        """Leave one batch out of the ring and destroy the ring before."""
        from portal.files import keystore, remove

        slots = range(self.at, self.at + BATCH)
        fresh = self.keyrings.without(self.key_id, slots, self.purpose, "bench", self.undo)
        keystore().destroy(self.key_id)
        remove(self.keyrings.ring_name(self.key_id))
        self.key_id, self.at = fresh, self.at + BATCH
        return ROWS

    def reseal(self) -> int:
        """Open and seal a row as often as the sample says; storing it costs more on top."""
        for _ in range(SAMPLE):
            for blob in self.sealed:
                self.new.seal(self.old.open(blob, b"context"), b"context")
        return SAMPLE
