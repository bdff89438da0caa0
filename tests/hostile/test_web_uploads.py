"""Uploads are judged by content: not by name, nor by declared type, and never in part (issue 3, Web)."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow, Package
from portal.core.images import PhotoRule, check_photo
from portal.models import Task
from portal.queue import run_task
from portal.removal import remove_pending
from portal.samples.photos import draw_bust, encode_to_weight
from tests.api import ROOT, client_of, code_of
from tests.orders.intake.world import World, make_world
from tests.orders.scene import Scene, csv_file, make_scene, person
from tests.portal.desk import page, sign_in

pytestmark = pytest.mark.django_db
NAMES = (
    "package.scp",
    "../../../etc/cron.d/x",
    "..\\..\\x.scp",
    "a\r\nSet-Cookie: x=1",
    "x" * 400,
    "<script>.scp",
)


def zipped(names: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return target.getvalue()


PICTURE = encode_to_weight(draw_bust("upload"))
NO_TABLE = {
    "old workbook": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "sheet_kind"),
    "web page": (b"<html><script>alert(1)</script></html>", "sheet_markup"),
    "web page after a mark": (b"\xef\xbb\xbf <!DOCTYPE html><p>1,2,3", "sheet_markup"),
    "pdf": (b"%PDF-1.7\n1 0 obj", "sheet_kind"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(64), "sheet_kind"),
    "photo": (PICTURE, ""),
    "archive without a sheet": (zipped({"a.txt": b"x"}), ""),
    "document": (zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}), ""),
    "macro": (zipped({"[Content_Types].xml": b"<Types/>", "xl/vbaProject.bin": b"x"}), ""),
    "text with NULs": ("证件号码,户名,账号\r\n".encode() + b"1\0\0,2,3\r\n", "sheet_kind"),
    "archive after a picture": (PICTURE + zipped({"xl/workbook.xml": b"<x/>"}), ""),
}
NO_PACKAGE = {
    "nothing": b"",
    "web page": b"<html></html>",
    "workbook": zipped({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<x/>"}),
    "traversal": zipped({"../../etc/passwd": b"x", "payload.bin": b"x"}),
    "right names only": zipped({"envelope.json": b"{}", "payload.bin": b"x"}),
    "photo": PICTURE,
}
DRESSED = {
    "picture in front": lambda whole: PICTURE + whole,
    "program in front": lambda whole: b"#!/bin/sh\nexit 0\n" + whole,
    "page behind": lambda whole: whole + b"<html><script>alert(1)</script>",
    "comment": lambda whole: whole[:-2] + b"\x05\x00<svg>",
}


@pytest.fixture
def world(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


@pytest.fixture
def scene(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_scene(banks=1)


def stored() -> list[Path]:
    """Return every file that storage holds."""
    return [path for path in Path(default_storage.location).rglob("*") if path.is_file()]  # type: ignore[attr-defined]


def upload(client: Client, address: str, content: bytes, name: str = "a.csv", kind: str = "text/csv") -> Any:
    return client.post(address, {"file": SimpleUploadedFile(name, content, kind)})


def test_every_form_that_takes_a_file_says_how_large_it_may_be() -> None:
    """What a form does not allow is refused before a byte of it is read (portal.middleware.BodyRules)."""
    taking = {form for form in verb_forms() if takes_file(form)}
    assert {form.__name__ for form in taking} >= {"UploadPackageForm", "UploadAccountsForm", "CorrectionForm"}
    assert all(form.upload_limit() > 0 for form in taking)
    assert all(form.upload_limit() == 0 for form in set(verb_forms()) - taking)


def verb_forms() -> list[Any]:
    """Return the forms of all verbs."""
    verbs = [getattr(site, name) for site in admin.site._registry.values() for name in dir(type(site))]
    return [verb.form_class for verb in verbs if hasattr(verb, "form_class")]


def takes_file(form: Any) -> bool:
    """Say whether a form has a file, or makes one when it is built."""
    fields = any(isinstance(field, forms.FileField) for field in form.base_fields.values())
    return fields or any(name.startswith("clean_photo") for name in dir(form))


@pytest.mark.parametrize("kind", NO_TABLE)
@pytest.mark.parametrize("way", ["page", "api"])
def test_what_is_no_table_is_refused_whatever_it_is_called(scene: Scene, kind: str, way: str) -> None:
    """R-8: called a CSV, declared a workbook; the answer names what it is, and nothing of it stays."""
    content, code = NO_TABLE[kind]
    clerk = scene.bank_clerks[0]
    mime = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    if way == "page":
        upload(sign_in(clerk), page("orders.accountfile", "upload"), content, "accounts.csv", mime)
    else:
        upload(client_of(clerk), f"{ROOT}/account-files", content, "accounts.csv", mime)
    run_task(Task.objects.get().pk)
    row = AccountFile.objects.get()
    assert row.status == AccountFileStatus.REFUSED
    assert row.refusal_code == code or not code
    assert not AccountRow.objects.exists()
    remove_pending()
    assert stored() == []


@pytest.mark.parametrize("kind", NO_PACKAGE)
def test_what_is_no_package_is_refused_at_the_door(world: World, kind: str) -> None:
    sent = upload(
        client_of(world.clerk), f"{ROOT}/packages", NO_PACKAGE[kind], "package.scp", "application/zip"
    )
    assert sent.status_code in {400, 422}
    page_answer = upload(
        sign_in(world.clerk), page("orders.package", "upload"), NO_PACKAGE[kind], "package.scp"
    )
    assert page_answer.status_code in {409, 422}
    assert not Package.objects.exclude(status="refused").exists()
    assert stored() == []


@pytest.mark.parametrize("kind", DRESSED)
def test_a_true_package_dressed_as_something_else_is_refused(world: World, kind: str) -> None:
    """A file with two readings is nobody's package: not one byte before, behind or in between."""
    dressed = DRESSED[kind](world.container())
    answer = upload(client_of(world.clerk), f"{ROOT}/packages", dressed, "package.scp", "application/zip")
    assert code_of(answer, 422)
    assert not Package.objects.exclude(status="refused").exists()
    assert stored() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_shown(world: World, name: str) -> None:
    answer = upload(client_of(world.clerk), f"{ROOT}/packages", world.container(), name, "application/zip")
    assert answer.status_code == 201
    shown = answer.json()["file_name"]
    assert "/" not in shown
    assert "\\" not in shown
    assert "\r" not in shown
    assert len(shown) <= 255
    assert all(name not in str(path) for path in stored())
    listed = sign_in(world.clerk).get(page("orders.package", "change", answer.json()["id"])).content
    assert b"<script>.scp" not in listed


@pytest.mark.parametrize(
    ("dress", "code"),
    [
        (lambda jpeg: jpeg, None),
        (lambda jpeg: jpeg + b"\0\0\r\n", None),
        (lambda jpeg: b"GIF89a" + jpeg, "photo_not_jpeg"),
        (lambda jpeg: jpeg + zipped({"a": b"x"}) + b"\xff\xd9", "photo_damaged"),
        (lambda jpeg: jpeg + b"<script>alert(1)</script>\xff\xd9", "photo_damaged"),
        (lambda jpeg: jpeg + jpeg, "photo_damaged"),
        (lambda jpeg: zipped({"a.jpg": jpeg}), "photo_not_jpeg"),
        (lambda jpeg: b"\x89PNG\r\n\x1a\n" + jpeg, "photo_not_jpeg"),
    ],
)
def test_a_photo_is_a_photo_and_nothing_else(dress: Any, code: str | None) -> None:
    """R-17: something hidden behind the picture's end is as bad as no picture."""
    found = check_photo(dress(PICTURE), PhotoRule(max_bytes=10**6))
    assert (found.code if found else None) == code


def test_an_upload_that_breaks_off_leaves_nothing(world: World) -> None:
    whole = world.container()
    answer = upload(client_of(world.clerk), f"{ROOT}/packages", whole[: len(whole) // 2], "package.scp")
    assert code_of(answer, 422)
    assert stored() == []


def test_a_good_file_is_still_taken(scene: Scene) -> None:
    content = csv_file([person(1).row()]).read()
    upload(sign_in(scene.bank_clerks[0]), page("orders.accountfile", "upload"), content, "x.exe", "image/png")
    run_task(Task.objects.get().pk)
    assert AccountFile.objects.get().status == AccountFileStatus.CHECKED
