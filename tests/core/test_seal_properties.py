"""Whatever is done to a sealed package, it is refused whole; a small one is spoiled at every place (R-8)."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import TamperedError, sm3
from portal.core.errors import PortalError, SealRefusedError
from portal.core.seal import (
    Envelope,
    check_chunks,
    check_payload,
    open_container,
    read_envelope,
    unwrap_content_key,
    verify_envelope,
)
from portal.core.seal_chunks import ChunkCipher
from portal.core.seal_envelope import ALGORITHMS, parse_envelope
from tests.core.seal_cases import (
    CHUNK,
    ENVELOPE_JSON,
    PAYLOAD,
    PLAINTEXT,
    RECIPIENT,
    SEALED,
    SENDER,
    canonical,
    packed,
    receive,
    refusal_of,
    seal,
    with_envelope,
)

BLOCK = CHUNK + 16
BLOCKS = [PAYLOAD[start : start + BLOCK] for start in range(0, len(PAYLOAD), BLOCK)]
WHOLE = read_envelope(io.BytesIO(SEALED))


def resigned(**changes: Any) -> bytes:
    """Return the container as a sender would sign it who means what the changed envelope says."""
    fields = json.loads(ENVELOPE_JSON) | changes
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    return with_envelope(canonical(fields | {"signature": SENDER.sign(canonical(unsigned)).hex()}))


def test_every_bit_of_the_envelope_counts() -> None:
    """Exhaustive: each of its bits in turn, the ZIP's checksums made right again."""
    for position in range(len(ENVELOPE_JSON) * 8):
        changed = bytearray(ENVELOPE_JSON)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SealRefusedError):
            verify_envelope(parse_envelope(bytes(changed)), recipient="PORTAL", sender_key=SENDER.public)


def test_every_cut_is_refused() -> None:
    """Exhaustive: the file ends after each of its bytes in turn."""
    assert {refusal_of(SEALED[:length]).code for length in range(len(SEALED))} == {"not_a_container"}


def test_every_cut_from_the_front_is_refused() -> None:
    codes = {refusal_of(SEALED[start:]).code for start in range(1, len(SEALED))}
    assert codes <= {"not_a_container", "container_broken"}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SEALED)), st.binary(min_size=1, max_size=40))
def test_whatever_is_pushed_in_anywhere_is_refused(place: int, content: bytes) -> None:
    refusal_of(SEALED[:place] + content + SEALED[place:])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 64))
def test_whatever_is_taken_out_anywhere_is_refused(place: int, count: int) -> None:
    refusal_of(SEALED[:place] + SEALED[place + count :])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(PAYLOAD) - 1), st.binary(min_size=1, max_size=40))
def test_whatever_is_written_over_the_payload_is_refused(place: int, content: bytes) -> None:
    changed = (PAYLOAD[:place] + content + PAYLOAD[place + len(content) :])[: len(PAYLOAD)]
    if changed != PAYLOAD:
        container = packed([("payload.bin", changed), ("envelope.json", ENVELOPE_JSON)])
        assert refusal_of(container).code == "payload_changed"


class TestChunks:
    """Chunks are moved by somebody without the sender's key, then by the sender itself."""

    MOVES = pytest.mark.parametrize(
        ("blocks", "code"),
        [
            pytest.param([1, 0, 2], "payload_changed", id="swapped"),
            pytest.param([0, 0, 2], "payload_changed", id="repeated in place"),
            pytest.param([0, 1, 1, 2], "size_mismatch", id="repeated"),
            pytest.param([0, 2], "size_mismatch", id="dropped"),
            pytest.param([0, 1], "size_mismatch", id="last one dropped"),
        ],
    )

    @MOVES
    def test_by_a_stranger(self, blocks: list[int], code: str) -> None:
        payload = b"".join(BLOCKS[index] for index in blocks)
        container = packed([("payload.bin", payload), ("envelope.json", ENVELOPE_JSON)])
        assert refusal_of(container).code == code

    @MOVES
    def test_by_the_sender_who_signs_it_anew(self, blocks: list[int], code: str) -> None:
        """Signature and digest hold; the chunks' own tags do not."""
        payload = b"".join(BLOCKS[index] for index in blocks)
        length = len(payload) - 16 * len(blocks)
        envelope = replace(WHOLE, payload_digest=sm3(payload), payload_length=length).signed_by(SENDER)
        assert_chunks_refused(payload, envelope)

    def test_without_the_mark_of_the_last_chunk(self) -> None:
        """A stream that was cut at a chunk and declared whole: the former second chunk is not marked."""
        payload = b"".join(BLOCKS[:2])
        envelope = replace(WHOLE, payload_digest=sm3(payload), payload_length=2 * CHUNK).signed_by(SENDER)
        assert_chunks_refused(payload, envelope)

    def test_with_the_mark_too_early(self) -> None:
        cipher = ChunkCipher(unwrap_content_key(WHOLE, RECIPIENT), WHOLE.context())
        chunks = [PLAINTEXT[start : start + CHUNK] for start in range(0, len(PLAINTEXT), CHUNK)]
        payload = b"".join(cipher.seal(index, chunk, last=True) for index, chunk in enumerate(chunks))
        assert_chunks_refused(payload, replace(WHOLE, payload_digest=sm3(payload)).signed_by(SENDER))

    def test_of_another_package_under_the_same_names(self) -> None:
        other = seal(PLAINTEXT[::-1])
        start = other.index(b"payload.bin")
        payload = other[start + 31 : start + 31 + len(PAYLOAD)]
        refusal_of(packed([("payload.bin", payload), ("envelope.json", ENVELOPE_JSON)]))


def assert_chunks_refused(payload: bytes, envelope: Envelope) -> None:
    """Check that signature and digest hold, and that the chunks do not open all the same."""
    container = io.BytesIO(packed([("payload.bin", payload), ("envelope.json", envelope.to_json())]))
    read = read_envelope(container)
    verify_envelope(read, recipient="PORTAL", sender_key=SENDER.public)
    check_payload(container, read)
    key = unwrap_content_key(read, RECIPIENT)
    with pytest.raises(TamperedError):
        check_chunks(container, read, key)
    with pytest.raises(TamperedError):
        open_container(container, read, key).readall()


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a blank behind a comma": lambda text: text.replace(b',"', b', "', 1),
    "a line break at the end": lambda text: text + b"\n",
    "an escaped letter": lambda text: text.replace(b'"PORTAL"', b'"\\u0050ORTAL"'),
    "an escaped slash of nothing": lambda text: text.replace(b'"sender"', b'"sen\\u0064er"'),
    "keys in another order": lambda text: json.dumps(dict(reversed(json.loads(text).items()))).encode(),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "a doubled key, equal": lambda text: text.replace(b'"version":1', b'"version":1,"version":1'),
    "a doubled key, another": lambda text: text.replace(b'"sender":', b'"sender":"BANK-1","sender":'),
    "a doubled key inside": lambda text: text.replace(b'"digest":', b'"digest":"MD5","digest":'),
    "a length as a float": lambda text: text.replace(b'"payload_length":2500', b'"payload_length":2500.0'),
    "a length with an exponent": lambda text: text.replace(
        b'"payload_length":2500', b'"payload_length":25e2'
    ),
    "a length with a zero": lambda text: text.replace(b'"payload_length":2500', b'"payload_length":02500'),
    "a negative zero": lambda text: text.replace(b'"payload_length":2500', b'"payload_length":-0'),
    "not a number": lambda text: text.replace(b'"payload_length":2500', b'"payload_length":NaN'),
    "infinity": lambda text: text.replace(b'"payload_length":2500', b'"payload_length":Infinity'),
    "a version that is true": lambda text: text.replace(b'"version":1', b'"version":true'),
    "hex in capitals": lambda text: text.replace(b'"payload_digest":"', b'"payload_digest":"AA', 1),
    "a comment": lambda text: b"/* signed */" + text,
}


@pytest.mark.parametrize("trick", SPELLINGS)
def test_another_spelling_of_the_same_envelope_is_refused(trick: str) -> None:
    """One meaning has one form: two readers can never read two things out of one signature."""
    content = SPELLINGS[trick](ENVELOPE_JSON)
    assert content != ENVELOPE_JSON
    assert refusal_of(with_envelope(content)).code in {
        "envelope_not_canonical",
        "envelope_unreadable",
        "envelope_field",
        "version_unknown",
        "size_mismatch",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"algorithms": ALGORITHMS | {"cipher": "SM4-CBC"}}, "algorithm_unknown"),
        ({"algorithms": ALGORITHMS | {"key_wrap": "none"}}, "algorithm_unknown"),
        ({"algorithms": ALGORITHMS | {"digest": "MD5", "signature": "none"}}, "algorithm_unknown"),
        ({"algorithms": ALGORITHMS | {"more": "SM9"}}, "algorithm_unknown"),
        ({"algorithms": {"cipher": "SM4-GCM"}}, "algorithm_unknown"),
        ({"version": 0}, "version_unknown"),
        ({"chunk_size": 1 << 21}, "chunk_size_refused"),
        ({"chunk_size": 1 << 63}, "chunk_size_refused"),
        ({"chunk_size": 10**300}, "chunk_size_refused"),
        ({"chunk_size": 1}, "chunk_size_refused"),
        ({"payload_length": 1 << 62}, "envelope_field"),
        ({"chunk_size": 2048}, "size_mismatch"),
        ({"comment": "more"}, "envelope_field"),
    ],
)
def test_weaker_algorithms_and_absurd_sizes_are_refused_even_when_signed(
    changes: dict[str, Any], code: str
) -> None:
    """The sender's own signature over them changes nothing."""
    assert refusal_of(resigned(**changes)).code == code


def test_a_signature_that_is_missing_empty_or_of_another_form_is_refused() -> None:
    for value in ("", "00" * 8, "3006020100020100", "00" * 128):
        fields = json.loads(ENVELOPE_JSON) | {"signature": value}
        assert refusal_of(with_envelope(canonical(fields))).code in {"bad_signature", "envelope_field"}


def frames() -> Iterator[tuple[str, bytes, str]]:
    """Yield containers whose ZIP hides, doubles or streams something: name, bytes, code."""
    streamed = io.BytesIO()
    with zipfile.ZipFile(_Pipe(streamed), "w") as archive:
        archive.writestr("payload.bin", PAYLOAD)
        archive.writestr("envelope.json", ENVELOPE_JSON)
    yield "data descriptors", streamed.getvalue(), "member_streamed"
    third = packed([("payload.bin", PAYLOAD), ("envelope.json", ENVELOPE_JSON), ("records.csv", b"1")])
    yield "one member more", third, "members_refused"
    yield "hidden between the members", _with_gap(), "container_broken"
    yield "hidden before the directory", _before_directory(b"hidden"), "container_broken"
    flagged = bytearray(SEALED)
    flagged[flagged.index(b"PK\x01\x02") + 8] |= 0x20
    yield "a patched member", bytes(flagged), "container_broken"
    crc = bytearray(SEALED)
    crc[14] ^= 1
    yield "another checksum in front", bytes(crc), "container_broken"


class _Pipe(io.RawIOBase):
    """Something a ZIP is written to without going back."""

    def __init__(self, target: io.BytesIO) -> None:
        super().__init__()
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        return self._target.write(content)


def _before_directory(hidden: bytes) -> bytes:
    """Push bytes in front of the directory, its place in the end record made right."""
    start = SEALED.index(b"PK\x01\x02")
    end = bytearray(SEALED[-22:])
    struct.pack_into("<L", end, 16, start + len(hidden))
    return SEALED[:start] + hidden + SEALED[start:-22] + bytes(end)


def _with_gap() -> bytes:
    """Push bytes between the two members, every offset made right."""
    second = SEALED.index(b"PK\x03\x04", 4)
    content = bytearray(SEALED[:second] + b"hidden" + SEALED[second:])
    first_entry = content.index(b"PK\x01\x02")
    second_entry = content.index(b"PK\x01\x02", first_entry + 4)
    struct.pack_into("<L", content, second_entry + 42, second + 6)
    struct.pack_into("<L", content, len(content) - 6, first_entry)
    return bytes(content)


@pytest.mark.parametrize(("content", "code"), [pytest.param(c, code, id=name) for name, c, code in frames()])
def test_a_zip_that_hides_something_is_refused(content: bytes, code: str) -> None:
    assert refusal_of(content).code == code


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_three_members_of_two_names_are_refused() -> None:
    both = [("payload.bin", PAYLOAD), ("envelope.json", ENVELOPE_JSON)]
    for doubled in both:
        assert refusal_of(packed([*both, doubled])).code == "members_refused"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_never_crash(content: bytes) -> None:
    for container in (content, b"PK\x03\x04" + content, with_envelope(content)):
        with pytest.raises(PortalError):
            receive(container)
