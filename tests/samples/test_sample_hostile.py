"""Hostile packages: each carries exactly the one thing its name says."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from portal.core.crypto import Sm2PrivateKey
from portal.core.errors import PortalError
from portal.core.seal import check_payload, open_payload, read_envelope, verify_envelope
from portal.core.seal_container import read_layout
from portal.core.seal_envelope import unwrap_content_key
from portal.samples.hostile import BOMB_BYTES, HOSTILE, Parties, honest_members, hostile, inner_of, sealed

# Which check of the seal refuses it; the others open, and their content is what is wrong.
REFUSED = {
    "truncated": "not_a_container",
    "not_a_package": "not_a_container",
    "flipped_bit": "payload_changed",
    "wrong_recipient": "wrong_recipient",
    "wrong_signature": "bad_signature",
    "unknown_sender": "bad_signature",
    "wrong_key": "wrong_key",
}


def opened(content: bytes, parties: Parties, recipient: Sm2PrivateKey) -> bytes:
    """Run every check of the seal and return the inner bytes."""
    container = io.BytesIO(content)
    envelope = read_envelope(container)
    verify_envelope(envelope, recipient="portal", sender_key=parties.sender.public)
    check_payload(container, envelope)
    key = unwrap_content_key(envelope, recipient)
    return open_payload(container, envelope, key, offset=read_layout(container).payload_offset).readall()


def members(kind: str, parties: Parties, recipient: Sm2PrivateKey) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(opened(hostile(kind, parties), parties, recipient))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_honest_one_opens(parties: Parties, recipient: Sm2PrivateKey) -> None:
    inner = inner_of(honest_members())
    assert opened(sealed(inner, parties), parties, recipient) == inner


@pytest.mark.parametrize(("kind", "code"), REFUSED.items())
def test_refused_by_the_seal(kind: str, code: str, parties: Parties, recipient: Sm2PrivateKey) -> None:
    """R-8: each refusal has its own stable code."""
    with pytest.raises(PortalError) as refusal:
        opened(hostile(kind, parties), parties, recipient)
    assert refusal.value.code == code


@pytest.mark.parametrize("kind", sorted(set(HOSTILE) - set(REFUSED) - {"zip_bomb"}))
def test_whole_outside_and_wrong_inside(kind: str, parties: Parties, recipient: Sm2PrivateKey) -> None:
    inner = opened(hostile(kind, parties), parties, recipient)
    assert inner != inner_of(honest_members())


def test_bomb_is_small_outside(parties: Parties, recipient: Sm2PrivateKey) -> None:
    content = hostile("zip_bomb", parties)
    with zipfile.ZipFile(io.BytesIO(opened(content, parties, recipient))) as archive:
        bomb = archive.getinfo("photos/bomb.jpg")
    assert bomb.file_size == BOMB_BYTES
    assert bomb.file_size > 500 * bomb.compress_size
    assert len(content) < 1 << 20


def test_paths_that_climb(parties: Parties, recipient: Sm2PrivateKey) -> None:
    assert "photos/../../outside.jpg" in members("path_traversal", parties, recipient)
    assert "/outside.jpg" in members("absolute_path", parties, recipient)


def test_encoding_is_not_the_declared_one(parties: Parties, recipient: Sm2PrivateKey) -> None:
    found = members("wrong_encoding", parties, recipient)
    assert json.loads(found["manifest.json"])["encoding"] == "utf-8"
    with pytest.raises(UnicodeDecodeError):
        found["records.csv"].decode("utf-8")
    assert found["records.csv"].decode("gb18030").startswith("seq,AAC002")


def test_missing_parts(parties: Parties, recipient: Sm2PrivateKey) -> None:
    assert "records.csv" not in members("missing_records", parties, recipient)
    assert "manifest.json" not in members("missing_manifest", parties, recipient)
    header = members("missing_column", parties, recipient)["records.csv"].split(b"\r\n")[0]
    assert b"AAC003" not in header
    assert header.count(b",") == 15


def test_counts_that_differ(parties: Parties, recipient: Sm2PrivateKey) -> None:
    found = members("count_differs", parties, recipient)
    assert json.loads(found["manifest.json"])["record_count"] == 4
    assert len(found["records.csv"].splitlines()) == 1 + 3
    assert len(members("no_rows", parties, recipient)["records.csv"].splitlines()) == 1
