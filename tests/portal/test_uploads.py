"""Large uploads have no name on the disk (R-45)."""

from __future__ import annotations

import os

import pytest
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile
from django.test import RequestFactory

SMALL, LARGE = b"x" * 1000, bytes(range(256)) * 12_000


@pytest.fixture
def uploaded():
    requests = []

    def post(content: bytes):
        requests.append(
            RequestFactory().post("/", {"file": SimpleUploadedFile("a.csv", content, "text/csv")})
        )
        return requests[-1].FILES["file"]

    yield post
    for request in requests:
        request.close()


def test_small_upload_stays_in_memory(uploaded):
    assert isinstance(uploaded(SMALL), InMemoryUploadedFile)


def test_large_upload_is_whole_and_has_no_path(uploaded):
    found = uploaded(LARGE)
    assert (found.name, found.size, found.content_type) == ("a.csv", len(LARGE), "text/csv")
    assert found.read() == LARGE
    assert not hasattr(found, "temporary_file_path")
    assert os.fstat(found.fileno()).st_nlink == 0


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_chunks_give_the_same_bytes(uploaded, content):
    assert b"".join(uploaded(content).chunks()) == content
