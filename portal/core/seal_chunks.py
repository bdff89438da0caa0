"""SM4-GCM in chunks: the payload of packages and our own sealed files, read at any place in constant memory.

Chunk i is ciphertext || 16-byte tag; nonce = i as 12 bytes; associated data = SM3(context) || i as 8 bytes ||
last flag. So a cut, swapped, repeated or appended chunk, or one from another file, fails its tag.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

from portal.core.crypto import KEY_SIZE, NONCE_SIZE, TAG_SIZE, Bytes, GcmKey, TamperedError, derive_key, sm3

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer, WriteableBuffer

DEFAULT_CHUNK_SIZE = 16 * 1024
STORED_CHUNK_SIZE = 64 * 1024
"""For our own files, most of which are read from end to end: a chunk costs 20 µs besides its bytes."""
MIN_CHUNK_SIZE = 1024
MAX_CHUNK_SIZE = 1024 * 1024
_CACHED_CHUNKS = 8
_READ_AHEAD = 128 * 1024

_MAGIC = b"SM4SEAL1"
_HEADER = struct.Struct(">8sI16s")  # magic, chunk size, salt of the file's own key
_POSITION = struct.Struct(">QB")


class ChunkCipher:
    """Seal and open single chunks of one stream; the key must serve this stream only (nonces are counted)."""

    __slots__ = ("_context", "_gcm")

    def __init__(self, key: bytes, context: bytes) -> None:
        self._gcm = GcmKey(key)
        self._context = sm3(context)

    def seal(self, index: int, plaintext: bytes, *, last: bool) -> bytes:
        """Return ciphertext || tag of chunk `index`."""
        return self._gcm.encrypt(index.to_bytes(NONCE_SIZE, "big"), plaintext, self._place(index, last))

    def open(self, index: int, sealed: Bytes, *, last: bool) -> bytes:
        """Return the plaintext of chunk `index`; raise TamperedError naming the chunk."""
        nonce = index.to_bytes(NONCE_SIZE, "big")
        try:
            return self._gcm.decrypt(nonce, sealed[:-TAG_SIZE], sealed[-TAG_SIZE:], self._place(index, last))
        except TamperedError as exc:
            raise TamperedError("密文块校验失败：内容、顺序或密钥不符", where=f"第 {index + 1} 块") from exc

    def check(self, index: int, sealed: Bytes, *, last: bool) -> None:
        """Raise TamperedError naming the chunk unless its tag holds; nothing is decrypted."""
        nonce = index.to_bytes(NONCE_SIZE, "big")
        try:
            self._gcm.check(nonce, sealed[:-TAG_SIZE], sealed[-TAG_SIZE:], self._place(index, last))
        except TamperedError as exc:
            raise TamperedError("密文块校验失败：内容、顺序或密钥不符", where=f"第 {index + 1} 块") from exc

    def _place(self, index: int, last: bool) -> bytes:
        return self._context + _POSITION.pack(index, last)


def chunk_count(plaintext_length: int, chunk_size: int) -> int:
    """Return the number of chunks; an empty stream still has its one marked chunk."""
    return max(1, -(-plaintext_length // chunk_size))


def sealed_length(plaintext_length: int, chunk_size: int) -> int:
    """Return the bytes that `plaintext_length` bytes take once sealed."""
    return plaintext_length + TAG_SIZE * chunk_count(plaintext_length, chunk_size)


class SealedReader(io.RawIOBase):
    """A seekable plaintext view of chunks inside `file`, from `offset` on; only authenticated bytes get out.

    Not for sharing between threads. Closing it leaves `file` open.
    """

    def __init__(
        self,
        file: BinaryIO,
        key: bytes,
        *,
        chunk_size: int,
        plaintext_length: int,
        context: bytes,
        offset: int = 0,
    ) -> None:
        super().__init__()
        self._file = file
        self._cipher = ChunkCipher(key, context)
        self._chunk_size = chunk_size
        self._length = plaintext_length
        self._last = chunk_count(plaintext_length, chunk_size) - 1
        self._offset = offset
        self._position = 0
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._ahead, self._ahead_from = memoryview(b""), 0

    @property
    def length(self) -> int:
        """Return the plaintext length in bytes."""
        return self._length

    def readable(self) -> bool:
        """Say yes: this is an input."""
        return True

    def seekable(self) -> bool:
        """Say yes: any chunk can be opened on its own."""
        return True

    def tell(self) -> int:
        """Return the plaintext position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a plaintext position; beyond the end reads give nothing, before the start is an OSError."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"negative position {base + offset}")  # zipfile relies on OSError
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from the current position; raise TamperedError before a false byte gets out."""
        view = memoryview(buffer).cast("B")
        found = self.read_at(self._position, len(view))
        view[: len(found)] = found
        self._position += len(found)
        return len(found)

    def readall(self) -> bytes:
        """Return everything from the current position on, in memory."""
        found = self.read_at(self._position, max(0, self._length - self._position))
        self._position += len(found)
        return found

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` plaintext bytes from `offset`, without moving the position."""
        if offset < 0 or size < 0:
            raise ValueError(f"negative offset or size: {offset}, {size}")
        end = min(offset + size, self._length)
        if offset >= end:
            return b""
        first, last = offset // self._chunk_size, (end - 1) // self._chunk_size
        start = offset - first * self._chunk_size
        if first == last:
            return self._chunk(first)[start : start + end - offset]
        joined = b"".join([self._chunk(index) for index in range(first, last + 1)])
        return joined[start : start + end - offset]

    def check(self) -> None:
        """Check every chunk once, even an empty one; raise TamperedError naming the first bad one."""
        for index in range(self._last + 1):
            self._cipher.check(index, self._sealed(index), last=index == self._last)

    def check_end(self) -> None:
        """Open the last chunk: a stream that was cut or never finished fails here."""
        self._chunk(self._last)

    def _chunk(self, index: int) -> bytes:
        plaintext = self._cache.get(index)
        if plaintext is not None:
            self._cache.move_to_end(index)
            return plaintext
        plaintext = self._open(index)
        self._cache[index] = plaintext
        if len(self._cache) > _CACHED_CHUNKS:
            self._cache.popitem(last=False)
        return plaintext

    def _open(self, index: int) -> bytes:
        return self._cipher.open(index, self._sealed(index), last=index == self._last)

    def _sealed(self, index: int) -> memoryview:
        """Return one chunk as it lies in the file; who reads on gets the following ones with it."""
        step = self._chunk_size + TAG_SIZE
        start = (index - self._ahead_from) * step
        if start == len(self._ahead) and start:
            self._ahead, start = self._stored(index, max(1, _READ_AHEAD // step)), 0
            self._ahead_from = index
        elif not 0 <= start < len(self._ahead):
            self._ahead, start = self._stored(index, 1), 0
            self._ahead_from = index
        return self._ahead[start : start + step]

    def _stored(self, index: int, count: int) -> memoryview:
        """Read `count` chunks from `index` on, fewer at the end, as they lie in the file."""
        start = index * self._chunk_size
        count = min(count, self._last + 1 - index)
        size = min(count * self._chunk_size, self._length - start) + count * TAG_SIZE
        self._file.seek(self._offset + start + index * TAG_SIZE)
        stored = self._file.read(size)
        if len(stored) != size:
            cut = index + len(stored) // (self._chunk_size + TAG_SIZE)
            raise TamperedError(
                "密文不完整", where=f"第 {cut + 1} 块", expected=f"{size} 字节", got=f"{len(stored)} 字节"
            )
        return memoryview(stored)


class SealedWriter(io.RawIOBase):
    """Write our own sealed file: a header, then chunks under a key of this file alone, derived from `key`.

    `close()`, or leaving a `with` block without an error, marks the last chunk; a writer that was dropped,
    interrupted or left by an error makes a file that `open_sealed` refuses. `file` stays open.
    """

    def __init__(
        self, file: BinaryIO, key: bytes, context: bytes, *, chunk_size: int = STORED_CHUNK_SIZE
    ) -> None:
        super().__init__()
        self._abandoned = True  # until the header stands
        header = _HEADER.pack(_MAGIC, chunk_size, os.urandom(KEY_SIZE))
        self._cipher = ChunkCipher(_file_key(key, header), context)
        self._file = file
        self._chunk_size = chunk_size
        self._pending = bytearray()
        self._index = 0
        file.write(header)
        self._abandoned = False

    def writable(self) -> bool:
        """Say yes: this is an output."""
        return True

    def tell(self) -> int:
        """Return the plaintext bytes taken so far."""
        return self._index * self._chunk_size + len(self._pending)

    def write(self, content: ReadableBuffer, /) -> int:
        """Take all of `content`; at most one chunk stays in memory."""
        if self.closed:
            raise ValueError("write to a closed sealed file")
        view = memoryview(content).cast("B")
        taken = 0
        while taken < len(view):
            # The newest chunk is held back, full or not: only close() knows whether it is the last.
            if len(self._pending) == self._chunk_size:
                self._emit(last=False)
            part = view[taken : taken + self._chunk_size - len(self._pending)]
            self._pending += part
            taken += len(part)
        return taken

    def abandon(self) -> None:
        """Close without marking the end, so that nobody takes the file for a whole one."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """Write the last chunk, marked."""
        if self.closed:
            return
        try:
            if not self._abandoned:
                self._emit(last=True)
        finally:
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandoned = True
        self.close()

    def __del__(self) -> None:
        # io.RawIOBase would close() here and so declare a forgotten file whole.
        self._abandoned = True

    def _emit(self, *, last: bool) -> None:
        self._file.write(self._cipher.seal(self._index, bytes(self._pending), last=last))
        self._index += 1
        self._pending.clear()


def open_sealed(file: BinaryIO, key: bytes, context: bytes) -> SealedReader:
    """Open what SealedWriter wrote; raise TamperedError for a foreign, changed or unfinished file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) != _HEADER.size or not header.startswith(_MAGIC):
        raise TamperedError("不是本系统的密封文件")
    _, chunk_size, _ = _HEADER.unpack(header)
    if not 1 <= chunk_size <= MAX_CHUNK_SIZE:
        raise TamperedError("密封文件的块长度不对", expected=f"1–{MAX_CHUNK_SIZE}", got=str(chunk_size))
    chunks, rest = divmod(size - _HEADER.size, chunk_size + TAG_SIZE)
    plaintext_length = chunks * chunk_size + max(0, rest - TAG_SIZE)
    reader = SealedReader(
        file,
        _file_key(key, header),
        chunk_size=chunk_size,
        plaintext_length=plaintext_length,
        context=context,
        offset=_HEADER.size,
    )
    if sealed_length(plaintext_length, chunk_size) != size - _HEADER.size:
        raise TamperedError("密封文件不完整：写入中断或被截断")
    reader.check_end()
    return reader


def _file_key(key: bytes, header: bytes) -> bytes:
    """Bind key, salt and chunk size: two files under one package key never share a counted nonce."""
    return derive_key(key, b"file" + header)
