"""Key rings: a random key for each person, together in a sealed file, so that one is forgotten alone (R-22).

A ring's file is an array of SM4 keys by slot, sealed under a key of the key store. To forget slots, the ring
is written anew without them under another key, and the old key is destroyed: every older copy of the file is
then unreadable. That costs 16 bytes a slot, however much was sealed under the slots' keys.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import Any

from portal import files
from portal.core.crypto import KEY_SIZE, FieldCipher
from portal.core.key_refusals import KeyDestroyedError, KeyMissingError
from portal.core.keystore import KeyPurpose

CACHED_BYTES = 32 << 20
_NONE = bytes(KEY_SIZE)


def ring_name(key_id: str) -> str:
    """Return the stored name of the ring that a key opens."""
    return str(PurePosixPath("rings") / f"{key_id}.ring")


class NewRing:
    """A ring while its keys are drawn: 16 bytes a slot in memory, nothing on the disk before `write`."""

    def __init__(self) -> None:
        self._keys = bytearray()

    def draw(self, slot: int) -> bytes:
        """Draw a slot's key, once for each slot."""
        end = (slot + 1) * KEY_SIZE
        if len(self._keys) < end:
            self._keys += bytes(end - len(self._keys))
        key = os.urandom(KEY_SIZE)
        self._keys[end - KEY_SIZE : end] = key
        return key

    def write(self, purpose: KeyPurpose, label: str, undo: ExitStack) -> str:
        """Store the ring; return its key id. `undo` collects what a rollback would leave."""
        return _write(self._keys, purpose, label, undo)


def without(key_id: str, slots: Collection[int], purpose: KeyPurpose, label: str, undo: ExitStack) -> str:
    """Write a ring anew without some slots; return the new key id.

    The caller destroys the old key and removes the old file after its commit.
    """
    with files.read_sealed(ring_name(key_id), key_id) as ring:
        kept = bytearray(ring.readall())
    for slot in slots:
        kept[slot * KEY_SIZE : (slot + 1) * KEY_SIZE] = _NONE
    return _write(kept, purpose, label, undo)


def slot_cipher(key_id: str, slot: int) -> FieldCipher:
    """Return the cipher of one slot; raise KeyDestroyedError when the ring or the slot was destroyed."""
    try:
        files.cipher(key_id)  # asks whether the ring's key lives: any process may have destroyed it
    except KeyDestroyedError:
        _rings.found.pop(key_id, None)
        raise
    key = _rings.key(key_id, slot)
    if key in (_NONE, b""):
        raise KeyDestroyedError("该人员的密钥已销毁", where=f"{key_id[:8]}…#{slot}")
    return FieldCipher(key)


def live_cipher(model: Any, pk: int, key_id: str, slot: int) -> FieldCipher:
    """Return a slot's cipher from the ring that row `pk` of `model` names now.

    `key_id` is what the caller read; a destruction of others may have replaced it since.
    """
    try:
        return slot_cipher(key_id, slot)
    except (KeyDestroyedError, KeyMissingError):
        fresh = model.objects.filter(pk=pk).values_list("ring_key_id", flat=True).first()
        if not fresh or fresh == key_id:
            raise
        return slot_cipher(fresh, slot)


def _write(keys: bytearray, purpose: KeyPurpose, label: str, undo: ExitStack) -> str:
    key_id = files.keystore().create(purpose, label)
    undo.callback(files.keystore().destroy, key_id)
    undo.callback(files.remove, ring_name(key_id))
    with files.write_sealed(ring_name(key_id), key_id) as target:
        target.write(keys)
    return key_id


class _Rings(threading.local):
    """The rings a thread read last, bounded by their size; each is written once and never changes."""

    def __init__(self) -> None:
        self.found: OrderedDict[str, bytes] = OrderedDict()

    def key(self, key_id: str, slot: int) -> bytes:
        ring = self.found.get(key_id)
        if ring is None:
            with files.read_sealed(ring_name(key_id), key_id) as sealed:
                ring = self.found[key_id] = sealed.readall()
            while len(self.found) > 1 and sum(map(len, self.found.values())) > CACHED_BYTES:
                self.found.popitem(last=False)
        self.found.move_to_end(key_id)
        return ring[slot * KEY_SIZE : (slot + 1) * KEY_SIZE]


_rings = _Rings()
