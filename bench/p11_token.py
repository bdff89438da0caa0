"""P11: opening keys of the key store whose KEK lives in a token, a real SoftHSM2, against a KEK in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.compare import Comparison, Target, Variant
from portal.core.keystore import KeyPurpose, KeyStore, KeyWrapper
from tests.core.key_tokens import soft_hsm

KEYS = 200
ROTATED = 100


def opened(store: KeyStore, key_ids: list[str]) -> int:
    for key_id in key_ids:
        store.key(key_id)
    return len(key_ids)


def unwrapped(wrapper: KeyWrapper, blob: bytes) -> int:
    for _ in range(KEYS):
        wrapper.unwrap(blob, b"context")
    return KEYS


def rotated(folder: Path, filled: Path, token: KeyWrapper) -> int:
    return KeyStore(folder, _KEK, next_kek=token).rotate().rewrapped


def filled_again(folder: Path, filled: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(filled, folder)


_KEK = os.urandom(16)


def comparisons() -> Iterator[Comparison]:
    """Compare opening a key with bare unwrapping, and time a change of the KEK; nothing without SoftHSM2."""
    if shutil.which("softhsm2-util") is None:
        return
    token = soft_hsm().wrapper("bench")
    with tempfile.TemporaryDirectory() as name:
        inside, outside = KeyStore(Path(name) / "token", token), KeyStore(Path(name) / "memory", _KEK)
        ids = [[store.create(KeyPurpose.BATCH, "bench") for _ in range(KEYS)] for store in (inside, outside)]
        variants = [
            Variant("ours", "KEK in the token", partial(opened, inside, ids[0])),
            Variant("peer", "KEK in memory", partial(opened, outside, ids[1])),
            Variant(
                "limit",
                "AES-GCM in the token alone",
                partial(unwrapped, token, token.wrap(bytes(16), b"context")),
            ),
        ]
        yield Comparison(
            "P11",
            "keys opened, not from the cache",
            "keys",
            variants,
            [Target("KEK in memory", 0.3)],
            time.process_time,
        )
        source, target = Path(name) / "source", Path(name) / "rotated"
        store = KeyStore(source, _KEK)
        for _ in range(ROTATED):
            store.create(KeyPurpose.BATCH, "bench")
        change = Variant(
            "ours",
            "memory to token",
            partial(rotated, target, source, token),
            partial(filled_again, target, source),
        )
        yield Comparison("P11", "key files brought under another KEK", "keys", [change])
