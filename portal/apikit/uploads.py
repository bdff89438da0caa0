"""Bodies of requests: refused by their announced size before they are read, files put where they may lie."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.request import Request

from portal.core.errors import InputRefusedError
from portal.uploads import UnnamedFileUploadHandler

MULTIPART_OVERHEAD = 64 * 1024


class RequestTooLargeError(InputRefusedError):
    """The request announces more bytes than are taken."""

    code = "request_too_large"


class UploadSerializer(serializers.Serializer[Any]):
    """The one field of an upload."""

    file = serializers.FileField(help_text=_("要上传的文件"))


class InMemoryHandler(MemoryFileUploadHandler):
    """Keep the file in memory whatever its size: content that is not sealed must not lie on a disk."""

    def handle_raw_input(
        self,
        input_data: Any,
        META: Any,  # noqa: N803 - the name of the method that is overridden
        content_length: int,
        boundary: Any,
        encoding: str | None = None,
    ) -> None:
        """Take every file; its size was checked before."""
        self.activated = True


def to_disk(request: Request) -> None:
    """Let a sealed upload stream to a file without a name."""
    http = request._request  # noqa: SLF001 - DRF offers no other way to the handlers
    http.upload_handlers = [UnnamedFileUploadHandler(http)]


def to_memory(request: Request) -> None:
    """Let an upload in the clear stay in memory."""
    http = request._request  # noqa: SLF001 - DRF offers no other way to the handlers
    http.upload_handlers = [InMemoryHandler(http)]


def refuse_too_large(request: Request, limit: int) -> None:
    """Refuse a body of more than `limit` bytes and the multipart frame; DRF itself would read any length."""
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced > limit + MULTIPART_OVERHEAD:
        raise RequestTooLargeError("请求内容过大", expected=f"不超过 {limit} 字节", got=f"{announced} 字节")


def uploaded(request: Request) -> tuple[BinaryIO, str]:
    """Return the uploaded file and its name; anything missing is a validation error."""
    form = UploadSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    file: Any = form.validated_data["file"]
    return cast("BinaryIO", file.file), str(file.name)
