"""P1: a sealed package taken in: seal opened, rows and photos checked, personal columns sealed and stored."""

from __future__ import annotations

import csv
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import simplejpeg
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from PIL import Image

from bench.compare import Comparison, Target, Variant
from bench.world import empty, open_world

RECORDS = 5000
PEER = "zipfile, Pillow load, sealed photo files, bulk_create"
LIMIT = "bare loop: decrypt, decode, seal, COPY"
READ_BYTES = 1 << 20
_INDEXED = (1, 2, 14)  # AAC002, AAC003, AAZ500
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_FIELDS = (
    "package", "row_number", "version", "status", "problem_codes", "number_index", "name_index",
    "card_number_index", "number_sealed", "name_sealed", "personal_sealed", "employer_code", "issue_kind",
    "card_kind", "photo_name", "unmatched_reason", "bank", "delivery_point", "created_at",
)  # fmt: skip


def comparisons() -> Iterator[Comparison]:
    """Compare our intake with a plain one behind the same seal, and with what neither can do without."""
    open_world("bench_intake")
    intake = Intake()
    clear = partial(empty, ("orders_package", "portal_task"), ("packages", "photos"))
    variants = [
        Variant("ours", "receive, open, check in chunks", intake.ours, clear),
        Variant("peer", PEER, intake.peer, clear),
        Variant("limit", LIMIT, intake.bare, clear),
    ]
    targets = [Target("", 1500), Target(PEER, 2.5), Target(LIMIT, 1 / 1.4)]
    yield Comparison("P1", f"intake of {RECORDS:,} records with 16 KB photos", "records", variants, targets)


class Intake:
    """One generated package and the ways to take it in."""

    def __init__(self) -> None:
        from portal.files import keystore
        from tests.orders.intake.world import make_world

        self.world = make_world()
        self.container = self.world.container(RECORDS)
        self.index_key = keystore().index_key()

    def ours(self) -> int:
        """Run the services as workers do: a task to open, then the chunks."""
        from tests.orders.intake.world import run_tasks

        package = self.world.receive(self.container)
        run_tasks()
        package.refresh_from_db()
        assert package.accepted_count == RECORDS, package.refusal_text
        return RECORDS

    def peer(self) -> int:
        """Read row by row, check each photo with Pillow, keep it sealed in a file of its own, create in bulk.

        The seal of the package and the rules of the rows are ours: only the way through differs. Photos at
        places of a payload that stays as it came are ours too: the peer seals each, as an image field would.
        """
        from orders.models import CardholderRecord
        from orders.payloads import payload_reader
        from orders.services.drafts import load_rules
        from portal.files import keystore

        package = self.world.receive(self.container)
        rules, key, records = load_rules(), keystore().key(package.key_id), []
        archive = zipfile.ZipFile(cast("Any", payload_reader(package)))
        with (
            mock.patch("orders.validation.check_photo", _check_with_pillow),
            archive.open("records.csv") as raw,
        ):
            for place, row in enumerate(csv.DictReader(io.TextIOWrapper(raw, "utf-8-sig")), start=1):
                photo = archive.read(f"photos/{row['AAC002']}.jpg")
                values = _checked(row, photo, rules)
                self._keep(key, place, photo)
                columns = {**self._columns(key, values), "bank_id": values.bank_id}
                columns["delivery_point_id"] = values.delivery_point_id
                records.append(CardholderRecord(package=package, row_number=place, **columns))
        CardholderRecord.objects.bulk_create(records, batch_size=1000)
        return len(records)

    def _keep(self, key: bytes, place: int, photo: bytes) -> None:
        from django.conf import settings

        folder = Path(settings.FILES_DIR, "photos")
        folder.mkdir(exist_ok=True)
        (folder / f"{place}.sealed").write_bytes(_sealed(key, photo))

    def _columns(self, key: bytes, values: Any) -> dict[str, Any]:
        from orders.personal import PersonalPart

        return {
            "status": "accepted",
            "number_index": self._keyed(values.number),
            "name_index": self._keyed(values.name),
            "card_number_index": self._keyed(values.card_number),
            "number_sealed": _sealed(key, values.number.encode()),
            "name_sealed": _sealed(key, values.name.encode()),
            "personal_sealed": _sealed(key, PersonalPart.of(values).to_json().encode()),
            "employer_code": values.employer_code,
            "issue_kind": str(values.issue_kind),
            "card_kind": str(values.card_kind),
        }

    def _keyed(self, text: str) -> bytes:
        mac = hmac.HMAC(self.index_key, hashes.SM3())
        mac.update(text.encode())
        return mac.finalize()

    def bare(self) -> int:
        """Open the payload once, in order; decode, index and seal without looking; copy the rows.

        No rule of a row is applied and nothing is looked up: less than this cannot take a package in.
        """
        from orders.models import CardholderRecord, DeliveryPoint, Package
        from portal import bulk

        payload = self._opened()
        archive = zipfile.ZipFile(io.BytesIO(payload))
        with archive.open("records.csv") as raw:
            _heading, *cells = csv.reader(io.TextIOWrapper(raw, "utf-8-sig"))
        package = Package.objects.create(number="BARE", received_by=self.world.clerk)
        point = DeliveryPoint.objects.values_list("bank_id", "id")[0]
        return bulk.copy_rows(CardholderRecord, _FIELDS, self._rows(package.pk, point, cells, payload))

    def _opened(self) -> bytes:
        from portal.core.seal import extract_payload, open_payload, read_envelope, unwrap_content_key
        from portal.files import portal_key

        container, payload = io.BytesIO(self.container), io.BytesIO()
        envelope = read_envelope(container)
        extract_payload(container, envelope, payload)
        reader = open_payload(payload, envelope, unwrap_content_key(envelope, portal_key()))
        return b"".join(iter(partial(reader.read, READ_BYTES), b""))

    def _rows(
        self, package_id: int, point: tuple[int, int], cells: list[list[str]], payload: bytes
    ) -> Iterator[tuple[Any, ...]]:
        from django.utils import timezone

        key, now, keyed = os.urandom(16), timezone.now(), hmac.HMAC(self.index_key, hashes.SM3())
        for place, (row, photo) in enumerate(zip(cells, _photos(payload), strict=True), start=1):
            simplejpeg.decode_jpeg(photo, "RGB", True, True, 1, 1, 1.0, strict=True)
            indexes = [_copied(keyed, row[column]) for column in _INDEXED]
            fields = [_sealed(key, text.encode()) for text in (row[1], row[2], ",".join(row))]
            state = (package_id, place, 1, "accepted", [])
            yield *state, *indexes, *fields, "", "first", "finished", "", "", *point, now


def _checked(row: dict[str, str], photo: bytes, rules: Any) -> Any:
    from orders.validation import validate_row

    checked = validate_row(row, photo=photo, rules=rules)
    assert checked.values is not None, checked.codes
    return checked.values


def _check_with_pillow(jpeg: bytes, rule: Any, **_: Any) -> None:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
        assert image.size == (rule.width, rule.height)


def _sealed(key: bytes, content: bytes) -> bytes:
    nonce = os.urandom(12)
    encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    return nonce + encryptor.update(content) + encryptor.finalize() + encryptor.tag


def _copied(keyed: hmac.HMAC, text: str) -> bytes:
    mac = keyed.copy()
    mac.update(text.encode())
    return mac.finalize()


def _photos(payload: bytes) -> Iterator[bytes]:
    """Yield the stored photos by walking the members' own headers."""
    at = 0
    while payload.startswith(b"PK\3\4", at):
        *_, packed, _size, name_size, extra_size = _LOCAL_HEADER.unpack_from(payload, at)
        start = at + _LOCAL_HEADER.size + name_size + extra_size
        if not payload.startswith(b"photos/", at + _LOCAL_HEADER.size):
            return
        yield payload[start : start + packed]
        at = start + packed
