"""Containers nobody honest makes: each is refused with its own code before anything is believed."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.errors import SealRefusedError
from portal.core.seal import (
    read_envelope,
)
from tests.core.seal_cases import (
    ENVELOPE_JSON,
    PAYLOAD,
    SEALED,
    packed,
    refusal_of,
    seal,
    with_fields,
)


@pytest.mark.parametrize("length", [0, 1, 30, 1000, -1000, -23, -22, -1])
def test_a_cut_container_is_refused(length: int) -> None:
    assert refusal_of(SEALED[:length]).code == "not_a_container"


def test_a_container_with_something_glued_on_is_refused() -> None:
    assert refusal_of(SEALED + b"\0").code == "not_a_container"
    assert refusal_of(b"MZ" + SEALED).code == "not_a_container"
    commented = io.BytesIO(SEALED)
    with zipfile.ZipFile(commented, "a") as archive:
        archive.comment = b"x" * 40
    assert refusal_of(commented.getvalue()).code == "not_a_container"
    assert refusal_of(SEALED[:-2] + b"\x01\x00").code == "container_broken"


def test_a_container_in_front_of_another_is_refused() -> None:
    assert refusal_of(seal(b"other") + SEALED).code == "container_broken"


BOTH = [("payload.bin", PAYLOAD), ("envelope.json", ENVELOPE_JSON)]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([], id="none"),
        pytest.param(BOTH[:1], id="envelope missing"),
        pytest.param([*BOTH, ("readme.txt", b"")], id="one more"),
        pytest.param([BOTH[0], ("../envelope.json", ENVELOPE_JSON)], id="traversal"),
        pytest.param([BOTH[0], ("/envelope.json", ENVELOPE_JSON)], id="absolute"),
        pytest.param([BOTH[0], ("Envelope.json", ENVELOPE_JSON)], id="other case"),
        pytest.param([BOTH[0], ("envelope.json/", b"")], id="folder"),
    ],
)
def test_other_members_are_refused(members: list[tuple[str, bytes]]) -> None:
    assert refusal_of(packed(members)).code in {"members_refused", "not_a_container"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused() -> None:
    assert refusal_of(packed([BOTH[1], BOTH[1]])).code == "members_refused"


def test_a_name_with_a_hidden_tail_is_refused() -> None:
    """zipfile cuts names at a NUL; the original name is the one that is judged."""
    content = packed([BOTH[0], ("envelope.jsonX", ENVELOPE_JSON)]).replace(
        b"envelope.jsonX", b"envelope.json\0"
    )
    assert refusal_of(content).code == "members_refused"


def test_compressed_and_encrypted_members_are_refused() -> None:
    assert refusal_of(packed(BOTH, zipfile.ZIP_DEFLATED)).code == "member_compressed"
    content = bytearray(SEALED)
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    assert refusal_of(bytes(content)).code == "member_compressed"


def test_an_oversize_envelope_is_refused_before_it_is_read() -> None:
    padded = ENVELOPE_JSON + b" " * (64 * 1024)
    refusal = refusal_of(packed([BOTH[0], ("envelope.json", padded)]))
    assert (refusal.code, refusal.where) == ("envelope_oversize", "envelope.json")
    assert refusal.got == f"{len(padded)} 字节"


def test_a_directory_that_claims_to_be_huge_is_refused() -> None:
    content = bytearray(SEALED)
    struct.pack_into("<L", content, len(content) - 10, 1 << 31)
    assert refusal_of(bytes(content)).code == "container_broken"
    end = SEALED[-22:]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(SEALED) - 22, 1)
    assert refusal_of(SEALED[:-22] + record + locator + end).code == "container_broken"
    assert refusal_of(SEALED[:-22] + locator + end).code == "container_broken"


def test_members_that_overlap_are_refused() -> None:
    """A bomb: both names over the same bytes."""
    content = bytearray(packed([BOTH[1], ("payload.bin", b"")]))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    struct.pack_into("<LL", content, second + 20, len(ENVELOPE_JSON), len(ENVELOPE_JSON))
    struct.pack_into("<L", content, second + 42, 0)
    assert refusal_of(bytes(content)).code == "container_broken"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe{}",
        b"[" * 60000,
        b'{"version":1,"version":1}',
        b'{"version":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "list", "null", "cut", "utf-16", "deep", "doubled", "endless number"],
)
def test_an_envelope_that_is_no_json_object_is_refused(content: bytes) -> None:
    refusal = refusal_of(packed([BOTH[0], ("envelope.json", content)]))
    assert (refusal.code, refusal.where) == ("envelope_unreadable", "envelope.json")


@pytest.mark.parametrize("version", [0, 2, "1", True, 1.0, None, ...])
def test_an_unknown_version_is_refused(version: object) -> None:
    refusal = refusal_of(with_fields(version=version))
    assert (refusal.code, refusal.where, refusal.expected) == ("version_unknown", "version", "1")


@pytest.mark.parametrize("algorithms", [{}, None, {"cipher": "SM4-ECB"}, "SM4-GCM"])
def test_unknown_algorithms_are_refused(algorithms: object) -> None:
    assert refusal_of(with_fields(algorithms=algorithms)).code == "algorithm_unknown"


@pytest.mark.parametrize("chunk_size", [0, -1, 1, 1023, (1 << 20) + 1, "1024", 1024.0, True, None])
def test_a_chunk_size_out_of_range_is_refused(chunk_size: object) -> None:
    refusal = refusal_of(with_fields(chunk_size=chunk_size))
    assert (refusal.code, refusal.where) == ("chunk_size_refused", "chunk_size")


@pytest.mark.parametrize("length", [0, 2499, 2501, 1 << 40])
def test_sizes_that_do_not_add_up_are_refused(length: int) -> None:
    refusal = refusal_of(with_fields(payload_length=length))
    assert (refusal.code, refusal.got) == ("size_mismatch", f"{len(PAYLOAD)} 字节")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sender", ""),
        ("sender", "a" * 65),
        ("sender", "../../etc"),
        ("sender", 7),
        ("recipient", "PORTAL\n"),
        ("package_number", "1/2"),
        ("package_number", ".1"),
        ("package_number", ...),
        ("created_at", "2026-11-23"),
        ("created_at", "2026-11-23T8:00:00Z"),
        ("created_at", "2026-02-30T08:00:00Z"),
        ("created_at", 0),
        ("payload_length", -1),
        ("payload_length", (1 << 40) + 1),
        ("payload_length", True),
        ("wrapped_key", "zz"),
        ("wrapped_key", "00" * 513),
        ("payload_digest", "AB" * 32),
        ("payload_digest", "ab" * 31),
        ("signature", ""),
        ("signature", None),
        ("comment", "x"),
    ],
)
def test_a_malformed_field_is_refused_by_name(field: str, value: object) -> None:
    refusal = refusal_of(with_fields(**{field: value}))
    assert refusal.code == "envelope_field"
    assert field in refusal.where


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash_the_reader(content: bytes) -> None:
    for wrapped in (
        content,
        b"PK\x03\x04" + content + SEALED[-22:],
        SEALED[: len(content)] + content + SEALED[-400:],
    ):
        with pytest.raises(SealRefusedError):
            read_envelope(io.BytesIO(wrapped))
