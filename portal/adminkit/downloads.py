"""Downloads: always attachments, with names a file system takes, never kept by a cache."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO, BinaryIO, cast

from django.http import FileResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header

from portal.texts import told

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_UNSAFE = re.compile(r"[^\w.()（）\-]+")
NAME_BYTES = 180  # a file system takes 255, and browsers add to a name


def safe_name(name: str) -> str:
    """Return a file name without folders, control characters or a leading dot."""
    plain = _UNSAFE.sub("_", name).strip("._")
    stem, dot, suffix = plain.rpartition(".")
    return f"{_cut(stem)}{dot}{suffix[:10]}" if stem else _cut(plain) or "download"


def _cut(name: str) -> str:
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def attachment(content: IO[bytes], name: str, content_type: str = XLSX) -> FileResponse:
    """Return a streamed download that no cache keeps."""
    response = FileResponse(
        content, as_attachment=True, filename=safe_name(told(name)), content_type=content_type
    )
    response["Cache-Control"] = "no-store, private"
    return response


def written(name: str, write: Callable[[BinaryIO], object], content_type: str = XLSX) -> FileResponse:
    """Let `write` fill a temporary file and return it as a download; what it raises, nothing is sent of."""
    spool = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the response closes it
    try:
        write(spool)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return attachment(spool, name, content_type)


def streamed(blocks: Iterator[bytes], name: str, content_type: str = XLSX) -> StreamingHttpResponse:
    """Return a download that is decrypted while it is sent and stands on no disk; no cache keeps it.

    The first block is read before the answer starts, so that a file that cannot be opened is refused whole.
    """
    first = next(blocks, b"")
    response = StreamingHttpResponse(chain([first], blocks), content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, safe_name(told(name)))
    response["Cache-Control"] = "no-store, private"
    return response
