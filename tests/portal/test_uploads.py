"""Large uploads have no name on the disk (R-45)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile
from django.test import RequestFactory

Upload = Callable[[bytes], Any]
SMALL, LARGE = b"x" * 1000, bytes(range(256)) * 12_000


@pytest.fixture
def uploaded() -> Iterator[Upload]:
    requests: list[Any] = []

    def post(content: bytes) -> Any:
        requests.append(
            RequestFactory().post("/", {"file": SimpleUploadedFile("a.csv", content, "text/csv")})
        )
        return requests[-1].FILES["file"]

    yield post
    for request in requests:
        request.close()


def test_small_upload_stays_in_memory(uploaded: Upload) -> None:
    assert isinstance(uploaded(SMALL), InMemoryUploadedFile)


def test_large_upload_is_whole_and_has_no_path(uploaded: Upload) -> None:
    found = uploaded(LARGE)
    assert (found.name, found.size, found.content_type) == ("a.csv", len(LARGE), "text/csv")
    assert found.read() == LARGE
    assert not hasattr(found, "temporary_file_path")
    assert os.fstat(found.fileno()).st_nlink == 0


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_chunks_give_the_same_bytes(uploaded: Upload, content: bytes) -> None:
    assert b"".join(uploaded(content).chunks()) == content
