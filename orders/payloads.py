"""Photos inside the stored payload of a package, read at their place without unpacking anything."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, BinaryIO, NamedTuple, cast

from django.core.files.storage import default_storage

from orders.models import Package
from portal.core.crypto import TamperedError
from portal.core.key_refusals import KeyDestroyedError
from portal.core.seal import SealedReader
from portal.core.ziprefusals import ZipOversizeError
from portal.core.ziptable import Entry, content_of, member_at
from portal.files import keystore

OPEN_PAYLOADS = 4
MAX_PHOTO_SIZE = 2 << 20
"""Bytes beyond which a photo is not even read; validation's own limit is far below."""
_USUAL_HEADER = 96  # bytes of a member's own header with the name of a photo


class PhotoPlace(NamedTuple):
    """Where one photo lies in a package's payload, as the ZIP's directory described it."""

    offset: int
    compressed_size: int
    size: int
    method: int
    crc: int


@dataclass(slots=True)
class _Open:
    """A payload's file with its view; closed with its thread, at the latest."""

    file: IO[bytes]
    reader: SealedReader

    def __del__(self) -> None:
        self.file.close()


class _OpenPayloads(threading.local):
    """The payloads a thread read last; never shared, for a reader moves its file's position."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.found: OrderedDict[str, _Open] = OrderedDict()

    def reader(self, package: Package) -> SealedReader:
        """Return the open payload; raise KeyDestroyedError as soon as any process destroyed its key."""
        if self.process != os.getpid():  # a fork shares the parent's file positions
            self.process, self.found = os.getpid(), OrderedDict()
        key_id = package.content_key_id
        if not keystore().exists(key_id):
            self.drop(key_id)
            raise KeyDestroyedError("数据包的密钥已销毁，照片不可再读", where=str(package))
        opened = self.found.get(key_id)
        if opened is None:
            opened = self.found[key_id] = _opened(package)
            while len(self.found) > OPEN_PAYLOADS:
                self.found.popitem(last=False)[1].file.close()
        self.found.move_to_end(key_id)
        return opened.reader

    def drop(self, key_id: str) -> None:
        """Close a payload, if it is open."""
        opened = self.found.pop(key_id, None)
        if opened is not None:
            opened.file.close()


_payloads = _OpenPayloads()


def payload_reader(package: Package) -> SealedReader:
    """Return the plaintext view of a package's payload, kept open by this thread for the next call.

    Each call asks whether the key still lives; whoever keeps the answer for many photos, asks once for them.
    """
    return _payloads.reader(package)


def close_payload(package: Package) -> None:
    """Close this thread's view of a package's payload, before its file is removed."""
    _payloads.drop(package.content_key_id)


def _opened(package: Package) -> _Open:
    key = keystore().key(package.content_key_id)
    file = cast("IO[bytes]", default_storage.open(package.stored_name, "rb"))
    reader = SealedReader(
        cast("BinaryIO", file),
        key,
        chunk_size=package.chunk_size,
        plaintext_length=package.payload_length,
        context=bytes(package.payload_context),
    )
    return _Open(file, reader)


def read_stored_at(name: str, offset: int, size: int) -> bytes:
    """Return a stretch of a stored file as it lies there; raise TamperedError when it ends too early."""
    with default_storage.open(name, "rb") as file:
        file.seek(offset)
        found = bytes(file.read(size))
    if len(found) != size:
        raise TamperedError("密封文件不完整", where=name, expected=f"{size} 字节", got=f"{len(found)} 字节")
    return found


def read_photo_at(reader: SealedReader, place: PhotoPlace) -> tuple[str, bytes]:
    """Return name and bytes of the photo at a place, its checksum right.

    The name stands in the member's own header only; the caller compares it with the person it wanted.
    """
    if place.size > MAX_PHOTO_SIZE or place.compressed_size > MAX_PHOTO_SIZE:
        raise ZipOversizeError("照片过大", expected=f"≤ {MAX_PHOTO_SIZE} 字节", got=str(place.size))
    block = reader.read_at(place.offset, _USUAL_HEADER + place.compressed_size)
    name, header_size = member_at(block, place.offset)
    span = header_size + place.compressed_size
    if span > len(block):
        block = reader.read_at(place.offset, span)
    return name, content_of(block, Entry(name, *place, place.offset + span))
