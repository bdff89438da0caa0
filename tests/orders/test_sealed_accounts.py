"""Banks send account files as sealed packages: whole or not at all, and only their own (R-8, R-9, R-46)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.utils import timezone

from orders.models import AccountFile, AccountPackage, Package, SenderKey
from orders.selectors.accounts import account_report
from orders.services import sealed_accounts
from orders.services.accounts import load_account_file
from orders.services.folder import take_in_folder
from orders.services.packages import receive_package
from orders.services.registry import revoke_sender_key
from orders.services.sealed_accounts import receive_accounts, receive_sealed
from portal.choices import Role
from portal.core.account_parcel_write import manifest_of
from portal.core.crypto import Sm2PrivateKey
from portal.core.errors import PermissionRefusedError, PortalError
from portal.models import AuditEntry, Organisation, Task, User
from portal.samples.hostile import honest_members, inner_of
from tests.api import ROOT, client_of, code_of
from tests.orders.account_desk import current, run_tasks, stored_files
from tests.orders.bank_sender import CSV, Sender, parcel_of
from tests.orders.intake.world import add_sender_key
from tests.orders.scene import Scene, csv_file, make_user, person
from tests.portal.desk import page, said, sign_in
from tests.refusals import refused

CHECK = "orders.jobs_accounts.check_account_file"
OTHER_CSV = csv_file([person(9).row()]).getvalue()


@pytest.fixture
def sender(scene: Scene, own_folders: None) -> Sender:
    key = Sm2PrivateKey.generate()
    add_sender_key(scene.banks[0], key)
    User.objects.system()
    return Sender(scene.banks[0], key)


def receive(scene: Scene, content: io.BytesIO, actor: User | None = None) -> AccountPackage:
    return receive_accounts(content, file_name="a.sealed", actor=actor or scene.bank_clerks[0])


def kept() -> tuple[int, int, int, list[Path], int]:
    """Return what a refusal may not leave: packages, files, tasks, stored files, keys of account files."""
    packages = AccountPackage.objects.filter(status="received").count()
    keys = len([path for path in Path(settings.KEYSTORE_DIR).glob("*.key") if len(path.stem) == 32])
    return packages, AccountFile.objects.count(), Task.objects.count(), stored_files(), keys


def assert_refused(scene: Scene, content: io.BytesIO, code: str, actor: User | None = None) -> AccountPackage:
    """Check that a package is refused with this code and only its row and its event stay."""
    before = kept()
    with pytest.raises(PortalError) as caught:
        receive(scene, content, actor)
    row = AccountPackage.objects.latest("pk")
    assert (caught.value.code, row.refusal_code, row.status) == (code, code, "refused")
    event = AuditEntry.objects.latest("position")
    assert (event.action, event.result, event.details["code"]) == ("account_package.refused", "refused", code)
    assert kept() == before
    assert not any(each.number in row.refusal_text for each in map(person, range(1, 4)))
    return row


def test_a_sealed_file_is_checked_loaded_and_matched_like_an_uploaded_one(
    scene: Scene, sender: Sender
) -> None:
    """R-8, R-9: the bank's clerk sees it and loads it; nothing of it was ever stored in the clear."""
    package = receive(scene, sender.parcel())
    (row,) = package.files.all()
    assert (row.file_name, row.status, row.bank, row.uploaded_by) == (
        "a.csv",
        "received",
        sender.bank,
        scene.bank_clerks[0],
    )
    assert not any(person(1).account.encode() in path.read_bytes() for path in stored_files())
    run_tasks(CHECK)
    row.refresh_from_db()
    assert (row.status, row.good_count, account_report(row).problems) == ("checked", 3, ())
    load_account_file(row, actor=scene.bank_clerks[0])
    run_tasks("orders.jobs_accounts.load_account_file")
    assert current(sender.bank) == {person(n).number: person(n).account for n in range(1, 4)}
    event = AuditEntry.objects.get(action="account_package.received")
    assert (event.details["bank"], event.details["files"]) == (sender.bank.code, 1)
    assert event.details["key"] == sender.key.public.fingerprint()


def test_several_files_come_in_together(scene: Scene, sender: Sender) -> None:
    inner = parcel_of({"a.csv": CSV, "b.CSV": OTHER_CSV}, sender.bank.code)
    package = receive(scene, sender.seal(inner))
    assert sorted(package.files.values_list("file_name", flat=True)) == ["a.csv", "b.CSV"]
    assert Task.objects.filter(handler=CHECK).count() == 2


def test_one_bad_file_refuses_all_of_them(scene: Scene, sender: Sender) -> None:
    """Whole or not at all: the first file is undone when the second cannot be taken."""
    receive(scene, sender.parcel())
    again = parcel_of({"new.csv": OTHER_CSV, "old.csv": CSV}, sender.bank.code, "A-2")
    assert_refused(scene, sender.seal(again, number="A-2"), "account_file_replay")
    empty = parcel_of({"new.csv": OTHER_CSV, "none.csv": b""}, sender.bank.code, "A-3")
    assert_refused(scene, sender.seal(empty, number="A-3"), "account_file_empty")


class TestWhoseItIs:
    def test_a_banks_key_seals_no_other_banks_data(self, scene: Scene, sender: Sender) -> None:
        """The envelope in the other bank's name is not signed by it; in its own name the manifest lies."""
        other = scene.banks[1]
        add_sender_key(other, Sm2PrivateKey.generate())
        forged = Sender(other, sender.key)
        row = assert_refused(scene, forged.parcel(), "bad_signature", scene.bank_clerks[1])
        assert row.bank == other
        lying = parcel_of({"a.csv": CSV}, other.code)
        assert_refused(scene, sender.seal(lying), "account_parcel_sender")

    def test_a_banks_key_seals_no_card_data(self, scene: Scene, sender: Sender) -> None:
        cards = inner_of(honest_members())
        assert_refused(scene, sender.seal(cards), "account_parcel_format")
        with pytest.raises(PortalError) as caught:
            receive_package(sender.seal(cards, number="A-2"), file_name="a", actor=scene.clerk)
        assert caught.value.code == "unknown_sender"
        assert not Package.objects.exclude(pk=scene.package.pk).exclude(status="refused").exists()

    def test_the_province_sends_no_accounts(self, scene: Scene, sender: Sender) -> None:
        province = Organisation.objects.create(kind="province", code="PROV", name="省", short_name="省")
        key = Sm2PrivateKey.generate()
        add_sender_key(province, key)
        content = Sender(province, key).parcel()
        with pytest.raises(PortalError) as caught:
            receive(scene, content)
        assert caught.value.code == "unknown_sender"
        assert not AccountPackage.objects.exists()

    def test_another_banks_clerk_hands_in_nothing(self, scene: Scene, sender: Sender) -> None:
        operator = make_user("op", scene.suppliers[0], Role.SUPPLIER_OPERATOR)
        with refused(PermissionRefusedError, audited=["account_package.refused"]):
            receive(scene, sender.parcel(), scene.bank_clerks[1])
        with refused(PermissionRefusedError):
            receive(scene, sender.parcel(), operator)

    def test_the_purchasers_clerk_hands_in_what_he_cannot_read(self, scene: Scene, sender: Sender) -> None:
        package = receive_sealed(sender.parcel(), file_name="a.sealed", actor=scene.clerk)
        assert isinstance(package, AccountPackage)
        run_tasks(CHECK)
        assert package.files.get().status == "checked"
        with pytest.raises(PermissionRefusedError):
            load_account_file(package.files.get(), actor=scene.clerk)

    def test_a_bank_outside_the_programme(self, scene: Scene, sender: Sender) -> None:
        content = sender.parcel()
        Organisation.objects.filter(pk=sender.bank.pk).update(is_active=False)
        assert_refused(scene, content, "account_bank_unknown", User.objects.system())


class TestTheDoor:
    """Each of these is refused before the archive inside is looked at."""

    @pytest.fixture(autouse=True)
    def nothing_is_parsed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def parsed(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("the content was parsed")

        monkeypatch.setattr(sealed_accounts, "read_parcel", parsed)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"revoked_at": timezone.now()}, "sender_key_invalid"),
            ({"valid_until": timezone.now() - timedelta(hours=1)}, "sender_key_invalid"),
            ({"valid_from": timezone.now() + timedelta(hours=1)}, "sender_key_invalid"),
            ({"use": "encryption"}, "sender_key_invalid"),
        ],
        ids=["revoked", "expired", "not yet valid", "not for signing"],
    )
    def test_the_key(self, scene: Scene, sender: Sender, changes: dict[str, Any], code: str) -> None:
        SenderKey.objects.update(**changes)
        assert_refused(scene, sender.parcel(), code)

    def test_the_recipient(self, scene: Scene, sender: Sender) -> None:
        assert_refused(scene, sender.parcel(recipient="ELSE"), "wrong_recipient")
        stranger = Sm2PrivateKey.generate().public
        assert_refused(scene, sender.parcel(recipient_key=stranger), "wrong_key")

    @pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
    def test_a_flipped_bit(self, scene: Scene, sender: Sender, place: float) -> None:
        content = bytearray(sender.parcel(chunk_size=1024).getvalue())
        start = content.index(b"payload.bin") + 40
        content[start + int((content.index(b"envelope.json") - start - 40) * place)] ^= 1
        assert_refused(scene, io.BytesIO(bytes(content)), "payload_changed")

    def test_chunks_that_do_not_open(
        self, scene: Scene, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Signature and digest hold, but the sender's own software mixed up the chunks."""
        from portal.core import seal as seal_module

        honest = seal_module.ChunkCipher.seal
        turned = lambda self, index, chunk, *, last: honest(self, index ^ 1, chunk, last=last)  # noqa: E731
        with monkeypatch.context() as patched:
            patched.setattr(seal_module.ChunkCipher, "seal", turned)
            content = sender.parcel(chunk_size=1024)
        assert_refused(scene, content, "tampered")


def test_too_large_a_package_is_not_even_opened(
    scene: Scene, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_accounts, "FRAME_BYTES", -settings.MAX_ACCOUNT_FILE_BYTES + 100)
    with pytest.raises(PortalError) as caught:
        receive(scene, sender.parcel())
    assert caught.value.code == "package_too_large"


class TestReplay:
    def test_the_same_number_digest_or_a_new_signature(self, scene: Scene, sender: Sender) -> None:
        content = sender.parcel()
        receive(scene, content)
        assert_refused(scene, content, "replayed")
        other = parcel_of({"b.csv": OTHER_CSV}, sender.bank.code)
        assert_refused(scene, sender.seal(other), "replayed")

    def test_it_is_remembered_after_the_files_are_destroyed(self, scene: Scene, sender: Sender) -> None:
        content = sender.parcel()
        receive(scene, content)
        AccountFile.objects.update(status="destroyed")
        assert_refused(scene, content, "replayed")

    def test_a_refused_number_may_come_again(self, scene: Scene, sender: Sender) -> None:
        assert_refused(scene, sender.parcel(recipient="ELSE"), "wrong_recipient")
        assert receive(scene, sender.parcel()).status == "received"

    def test_a_key_revoked_at_the_last_moment_counts(
        self, scene: Scene, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the check of the signature and the writing of the rows, somebody revokes the key."""
        admin = make_user("security", scene.purchaser, Role.SECURITY_ADMINISTRATOR)
        honest = sealed_accounts._opened

        def revoking(*args: Any) -> Any:
            revoke_sender_key(SenderKey.objects.get(organisation=sender.bank), actor=admin)
            return honest(*args)

        monkeypatch.setattr(sealed_accounts, "_opened", revoking)
        assert_refused(scene, sender.parcel(), "sender_key_invalid")


def doubled(inner: bytes) -> bytes:
    target = io.BytesIO(inner)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("accounts/a.csv", OTHER_CSV)
    return target.getvalue()


INSIDE: dict[str, tuple[Callable[[str], bytes], str]] = {
    "no archive": (lambda code: CSV, "zip_truncated"),
    "no manifest": (lambda code: inner_of({"accounts/a.csv": CSV}), "account_parcel_format"),
    "manifest that is no JSON": (
        lambda code: inner_of({"manifest.json": b"{", "accounts/a.csv": CSV}),
        "account_parcel_format",
    ),
    "other version": (lambda code: parcel_of({"a.csv": CSV}, code, version=2), "account_parcel_format"),
    "files that are no list": (
        lambda code: parcel_of({"a.csv": CSV}, code, files=1),
        "account_parcel_format",
    ),
    "other number": (lambda code: parcel_of({"a.csv": CSV}, code, "A-2"), "account_parcel_sender"),
    "no files": (lambda code: parcel_of({}, code), "account_parcel_member"),
    "not announced": (
        lambda code: parcel_of({"a.csv": CSV, "b.csv": OTHER_CSV}, code, files=["accounts/a.csv"]),
        "account_parcel_member",
    ),
    "announced, not there": (
        lambda code: parcel_of({"a.csv": CSV}, code, files=["accounts/a.csv", "accounts/b.csv"]),
        "account_parcel_member",
    ),
    "announced twice": (
        lambda code: parcel_of({"a.csv": CSV}, code, files=["accounts/a.csv"] * 2),
        "account_parcel_member",
    ),
    "a program": (lambda code: parcel_of({"a.exe": CSV}, code), "account_parcel_member"),
    "a folder deeper": (lambda code: parcel_of({"x/a.csv": CSV}, code), "account_parcel_member"),
    "a way out": (lambda code: parcel_of({"../a.csv": CSV}, code), "zip_path"),
    "two of one name": (lambda code: doubled(parcel_of({"a.csv": CSV}, code)), "account_parcel_member"),
    "too many": (
        lambda code: parcel_of({f"{n}.csv": CSV for n in range(40)}, code),
        "zip_too_many",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", INSIDE)
def test_a_wrong_content_is_refused_whole(scene: Scene, sender: Sender, kind: str) -> None:
    build, code = INSIDE[kind]
    assert_refused(scene, sender.seal(build(sender.bank.code)), code)


def test_a_bomb(scene: Scene, sender: Sender, settings: Any) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest_of(sender.bank.code, "A-1", ["a.csv"]))
        archive.writestr("accounts/a.csv", bytes(60 << 20))
    assert_refused(scene, sender.seal(target.getvalue()), "zip_bomb")


class TestWaysIn:
    def test_the_api(self, scene: Scene, sender: Sender) -> None:
        client, url = client_of(scene.bank_clerks[0]), f"{ROOT}/account-packages"
        answer = client.post(url, {"file": SimpleUploadedFile("a.sealed", sender.parcel().getvalue())})
        assert answer.status_code == 201, answer.content
        body = answer.json()
        assert (body["number"], body["bank"], body["status"]) == ("A-1", sender.bank.code, "received")
        assert [file["file_name"] for file in body["files"]] == ["a.csv"]
        assert client.get(f"{url}/{body['id']}").json() == body
        again = client.post(url, {"file": SimpleUploadedFile("a.sealed", sender.parcel().getvalue())})
        assert code_of(again, 422) == "replayed"
        other = client_of(scene.bank_clerks[1])
        assert other.get(url).json()["results"] == []
        assert code_of(other.get(f"{url}/{body['id']}"), 404) == "not_found"
        refusal = other.post(url, {"file": SimpleUploadedFile("a.sealed", sender.parcel().getvalue())})
        assert refusal.status_code in {403, 404}

    def test_the_page_of_the_bank_and_that_of_the_purchaser(self, scene: Scene, sender: Sender) -> None:
        desk = sign_in(scene.bank_clerks[0])
        upload = page("orders.accountpackage", "upload")
        answer = desk.post(upload, {"file": SimpleUploadedFile("a.sealed", sender.parcel().getvalue())})
        assert said(answer) == "已接收密封账号包 A-1：1 个账号文件，正在后台预检"
        number = parcel_of({"b.csv": OTHER_CSV}, sender.bank.code, "A-2")
        file = SimpleUploadedFile("b.sealed", sender.seal(number, number="A-2").getvalue())
        answer = sign_in(scene.clerk).post(page("orders.package", "upload"), {"file": file})
        assert said(answer) == "已接收密封账号包 A-2：1 个账号文件，正在后台预检"
        again = desk.post(upload, {"file": SimpleUploadedFile("a.sealed", sender.parcel().getvalue())})
        assert said(again).endswith("（replayed）")

    def test_the_command(
        self, scene: Scene, sender: Sender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "a.sealed"
        path.write_bytes(sender.parcel().getvalue())
        call_command("intake", str(path))
        assert "a.sealed：A-1 a.csv 已预检：3 行，有效 3，问题 0" in capsys.readouterr().out
        with pytest.raises(CommandError):
            call_command("intake", str(path))
        assert "拒收（replayed）" in capsys.readouterr().err

    def test_the_watched_folder(self, scene: Scene, sender: Sender, settings: Any, tmp_path: Path) -> None:
        settings.INTAKE_DIR = folder = tmp_path / "watched"
        folder.mkdir()
        (folder / "good.sealed").write_bytes(sender.parcel().getvalue())
        (folder / "bad.sealed").write_bytes(sender.parcel(recipient="ELSE", number="A-2").getvalue())
        taken = {each.name: each for each in take_in_folder(actor=User.objects.system(), settled_after=0)}
        assert isinstance(taken["good.sealed"].package, AccountPackage)
        assert getattr(taken["bad.sealed"].error, "code", "") == "wrong_recipient"
        assert [path.name for path in folder.iterdir()] == ["refused"]
