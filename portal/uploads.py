"""Uploads that never have a name on the disk: a killed web process leaves no plaintext behind (R-45)."""

from __future__ import annotations

import tempfile
from typing import IO, Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler


class UnnamedFileUploadHandler(FileUploadHandler):
    """Take what is too large for memory into an unlinked file, which the kernel frees with the process."""

    _spool: IO[bytes]

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Open the spool of the next file."""
        super().new_file(*args, **kwargs)
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the request's files

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write one chunk."""
        self._spool.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[bytes]:
        """Hand the whole file over, at its beginning."""
        self._spool.seek(0)
        return UploadedFile(
            file=self._spool,
            name=self.file_name,
            content_type=self.content_type,
            size=file_size,
            charset=self.charset,
            content_type_extra=self.content_type_extra,
        )

    def upload_interrupted(self) -> None:
        """Give the space back at once when the client goes away."""
        self._spool.close()
