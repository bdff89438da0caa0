"""Spoiled packages at the portal's door: refused before their content is parsed, nothing kept (R-8, R-46).

What each kind of damage is called: tests/core/test_seal_properties.py. Here is what the portal does then.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders.models import CardholderRecord, IntakeChunk, Package, PackagePhoto, SenderKey
from orders.services import intake, unpacking
from portal import files
from portal.audit import verify_chain
from portal.core.crypto import sm3
from portal.core.errors import InputRefusedError
from portal.core.seal import read_envelope, seal_package
from portal.core.seal_container import read_layout
from portal.models import AuditEntry, Task
from tests.core.seal_cases import canonical, packed
from tests.orders.intake.world import World, add_sender_key, make_world, run_tasks

CHUNK = 1024


@pytest.fixture
def world(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let any look at the content fail the test: parsing begins with the archive's directory."""

    def parsed(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the content was parsed")

    monkeypatch.setattr(unpacking, "iter_entries", parsed)
    monkeypatch.setattr(unpacking, "read_entry", parsed)
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


def container(world: World, **changes: Any) -> bytes:
    """Seal a small honest package in small chunks."""
    parties: dict[str, Any] = {
        "sender": "PROVINCE",
        "sender_key": world.sender_key,
        "recipient": django_settings.PORTAL_CODE,
        "recipient_key": files.portal_key().public,
        "package_number": "P-1",
        "created_at": timezone.now() - timedelta(minutes=1),
        "chunk_size": CHUNK,
    }
    target = io.BytesIO()
    seal_package(io.BytesIO(b"PK\x03\x04" + bytes(3 * CHUNK)), target, **(parties | changes))
    return target.getvalue()


def parts(content: bytes) -> tuple[bytes, list[bytes]]:
    """Return the envelope and the payload's chunks as they are sealed."""
    layout = read_layout(io.BytesIO(content))
    payload = content[layout.payload_offset : layout.payload_offset + layout.payload_size]
    return layout.envelope, [payload[at : at + CHUNK + 16] for at in range(0, len(payload), CHUNK + 16)]


def kept() -> tuple[list[Path], list[Path], list[int]]:
    """Return stored files, data keys, and rows that anything but a refusal would leave."""
    stored = [path for path in Path(django_settings.FILES_DIR).rglob("*") if path.is_file()]
    keys = [path for path in Path(django_settings.KEYSTORE_DIR).glob("*.key") if len(path.stem) == 32]
    models: list[Any] = [Task, CardholderRecord, IntakeChunk, PackagePhoto]
    return stored, keys, [model.objects.count() for model in models]


@contextmanager
def refused(world: World, code: str = "") -> Iterator[None]:
    """Expect a refusal of which only its row and its one event stay."""
    before, rows, events = kept(), Package.objects.count(), AuditEntry.objects.count()
    with pytest.raises(InputRefusedError) as caught:
        yield
    row, event = Package.objects.latest("pk"), AuditEntry.objects.latest("position")
    assert row.refusal_code == caught.value.code == event.details["code"]
    assert row.refusal_code == code or not code
    assert (event.action, event.result, row.stored_name) == ("package.refused", "refused", "")
    assert (kept(), Package.objects.count(), AuditEntry.objects.count()) == (before, rows + 1, events + 1)


SAMPLED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TestBitsAndCuts:
    @SAMPLED
    @given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
    def test_any_flipped_bit_of_the_payload(self, world: World, place: float, bit: int) -> None:
        content = bytearray(container(world))
        layout = read_layout(io.BytesIO(bytes(content)))
        content[layout.payload_offset + int(layout.payload_size * place)] ^= 1 << bit
        with refused(world, "payload_changed"):
            world.receive(bytes(content))

    @SAMPLED
    @given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
    def test_any_flipped_bit_of_the_envelope(self, world: World, place: float, bit: int) -> None:
        envelope, chunks = parts(container(world))
        changed = bytearray(envelope)
        changed[int(len(changed) * place)] ^= 1 << bit
        with refused(world):
            world.receive(packed([("payload.bin", b"".join(chunks)), ("envelope.json", bytes(changed))]))

    @SAMPLED
    @given(st.floats(0, 1, exclude_max=True))
    def test_any_cut(self, world: World, place: float) -> None:
        content = container(world)
        with refused(world, "not_a_container"):
            world.receive(content[: int(len(content) * place)])

    def test_something_behind_the_end(self, world: World) -> None:
        with refused(world, "not_a_container"):
            world.receive(container(world) + b"\n")


MOVES: dict[str, tuple[list[int], str]] = {
    "swapped": ([1, 0, 2, 3], "payload_changed"),
    "repeated in place": ([0, 0, 2, 3], "payload_changed"),
    "repeated": ([0, 1, 1, 2, 3], "size_mismatch"),
    "dropped": ([0, 2, 3], "size_mismatch"),
    "the last dropped": ([0, 1, 2], "size_mismatch"),
}


class TestChunks:
    @pytest.mark.parametrize("move", MOVES)
    def test_moved_by_a_stranger(self, world: World, move: str) -> None:
        order, code = MOVES[move]
        envelope, chunks = parts(container(world))
        payload = b"".join(chunks[index] for index in order)
        with refused(world, code):
            world.receive(packed([("payload.bin", payload), ("envelope.json", envelope)]))

    @pytest.mark.parametrize("move", MOVES)
    def test_moved_by_the_sender(
        self, world: World, move: str, django_capture_on_commit_callbacks: Any
    ) -> None:
        """Signed anew, signature and digest hold; no chunk is believed before all are opened."""
        content = container(world)
        _, chunks = parts(content)
        payload = b"".join(chunks[index] for index in MOVES[move][0])
        envelope = replace(
            read_envelope(io.BytesIO(content)),
            payload_digest=sm3(payload),
            payload_length=len(payload) - 16 * len(MOVES[move][0]),
        ).signed_by(world.sender_key)
        package = world.receive(packed([("payload.bin", payload), ("envelope.json", envelope.to_json())]))
        with django_capture_on_commit_callbacks(execute=True):
            run_tasks()
        package.refresh_from_db()
        assert (package.status, package.refusal_code, package.stored_name) == ("refused", "tampered", "")
        stored, keys, rows = kept()
        assert (stored, keys, rows[1:]) == ([], [], [0, 0, 0])
        assert verify_chain()[1] is None


def _changed_key(**changes: Any) -> Callable[[World], bytes]:
    def spoil(world: World) -> bytes:
        SenderKey.objects.update(**changes)
        return container(world)

    return spoil


def _signed(**changes: Any) -> Callable[[World], bytes]:
    """Let the sender itself sign an envelope that says something else."""

    def spoil(world: World) -> bytes:
        envelope, chunks = parts(container(world))
        fields = json.loads(envelope) | changes
        unsigned = {name: value for name, value in fields.items() if name != "signature"}
        fields["signature"] = world.sender_key.sign(canonical(unsigned)).hex()
        return packed([("payload.bin", b"".join(chunks)), ("envelope.json", canonical(fields))])

    return spoil


def _stranger_in(name: str) -> Callable[[World], bytes]:
    def spoil(world: World) -> bytes:
        key = world.stranger if name == "sender_key" else world.stranger.public
        return container(world, **{name: key})

    return spoil


def _doubled_key(world: World) -> bytes:
    envelope, chunks = parts(container(world))
    doubled = envelope.replace(b'"sender":', b'"sender":"HRSS","sender":')
    return packed([("payload.bin", b"".join(chunks)), ("envelope.json", doubled)])


WEAK = {"cipher": "SM4-CBC", "digest": "SM3", "key_wrap": "SM2", "signature": "SM2-SM3"}
SPOILED: dict[str, tuple[Callable[[World], bytes], str]] = {
    "for somebody else": (lambda world: container(world, recipient="ELSE"), "wrong_recipient"),
    "sealed to another key": (_stranger_in("recipient_key"), "wrong_key"),
    "signed with another key": (_stranger_in("sender_key"), "bad_signature"),
    "of a sender nobody knows": (lambda world: container(world, sender="NOBODY"), "unknown_sender"),
    "of a bank": (lambda world: container(world, sender="ICBC"), "unknown_sender"),
    "of the purchaser, by the province": (
        lambda world: container(world, sender="HRSS"),
        "sender_key_invalid",
    ),
    "key expired": (_changed_key(valid_until=timezone.now() - timedelta(hours=1)), "sender_key_invalid"),
    "key not yet valid": (_changed_key(valid_from=timezone.now() + timedelta(hours=1)), "sender_key_invalid"),
    "key revoked": (_changed_key(revoked_at=timezone.now()), "sender_key_invalid"),
    "key for encryption": (_changed_key(use="encryption"), "sender_key_invalid"),
    "made tomorrow": (
        lambda world: container(world, created_at=timezone.now() + timedelta(days=1)),
        "sender_key_invalid",
    ),
    "weaker cipher": (_signed(algorithms=WEAK), "algorithm_unknown"),
    "huge chunks": (_signed(chunk_size=1 << 40), "chunk_size_refused"),
    "endless payload": (_signed(payload_length=1 << 60), "envelope_field"),
    "a field more": (_signed(note="x"), "envelope_field"),
    "a doubled key": (_doubled_key, "envelope_unreadable"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_each_has_its_code(world: World, kind: str) -> None:
    spoil, code = SPOILED[kind]
    content = spoil(world)
    with refused(world, code):
        world.receive(content)


class TestReplay:
    def test_the_same_file(self, world: World) -> None:
        content = container(world)
        world.receive(content)
        with refused(world, "replayed"):
            world.receive(content)

    def test_the_same_number_with_another_content(self, world: World) -> None:
        world.receive(container(world))
        with refused(world, "replayed"):
            world.receive(container(world))

    def test_the_same_payload_signed_anew_under_another_number(self, world: World) -> None:
        """The rotated key of the same sender vouches for what the old one sent."""
        content = container(world)
        world.receive(content)
        add_sender_key(world.province, world.stranger)
        envelope = replace(read_envelope(io.BytesIO(content)), package_number="P-2").signed_by(world.stranger)
        _, chunks = parts(content)
        with refused(world, "replayed"):
            world.receive(packed([("payload.bin", b"".join(chunks)), ("envelope.json", envelope.to_json())]))

    def test_it_is_remembered_after_destruction(self, world: World) -> None:
        content = container(world)
        Package.objects.filter(pk=world.receive(content).pk).update(
            status="destroyed", record_count=0, accepted_count=0, returned_count=0
        )
        with refused(world, "replayed"):
            world.receive(content)


def test_opening_looks_at_every_chunk_first(world: World) -> None:
    """The spy of these tests is seen when an honest package is opened: it would have been seen before."""
    world.receive(container(world))
    with pytest.raises(AssertionError, match="parsed"):
        intake.open_package(Package.objects.get(), actor=None)
