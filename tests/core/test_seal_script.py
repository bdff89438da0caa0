"""The stand-alone sender: what it seals the portal reads, and each mistake gets its own exit code."""

from __future__ import annotations

import errno
import io
import json
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.core.seal import extract_payload, open_payload, read_envelope, unwrap_content_key, verify_envelope
from portal.core.seal_proof import proves_possession

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "seal_package.py"
MAIN: Callable[[list[str]], int] = runpy.run_path(str(SCRIPT))["main"]

FILES = {"manifest.json": b"{}", "photos/1.jpg": b"\xff\xd8" * 9000, "records.csv": b"seq\r\n1\r\n"}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Lay out two key pairs and a folder to send."""
    for name in ("sender.pem", "portal.pem"):
        assert MAIN(["--generate-key", str(tmp_path / name)]) == 0
    for name, content in FILES.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def arguments(bench: Path, **changes: str | None) -> list[str]:
    options = {
        "sender": "PROVINCE",
        "sender-key": str(bench / "sender.pem"),
        "recipient": "PORTAL",
        "recipient-key": str(bench / "portal.pem.pub"),
        "number": "20261123-001",
        "in": str(bench / "package"),
        "out": str(bench / "out.sealed"),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]


def received(path: Path, bench: Path, *, stored: bool = True) -> dict[str, bytes]:
    """Open a container as the portal does; return the inner files."""
    key = Sm2PrivateKey.from_pem((bench / "portal.pem").read_text())
    sender = Sm2PublicKey.from_pem((bench / "sender.pem.pub").read_text())
    payload = io.BytesIO()
    with path.open("rb") as container:
        envelope = read_envelope(container)
        verify_envelope(envelope, recipient="PORTAL", sender_key=sender)
        extract_payload(container, envelope, payload)
    reader = open_payload(payload, envelope, unwrap_content_key(envelope, key))
    with zipfile.ZipFile(reader) as archive:
        assert not stored or {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_folder_arrives_as_it_was_sent(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-8."""
    assert MAIN(arguments(bench)) == 0
    assert received(bench / "out.sealed", bench) == FILES
    assert "已密封" in capsys.readouterr().out
    assert sorted(path.name for path in bench.iterdir()) == [
        "out.sealed",
        "package",
        "portal.pem",
        "portal.pem.pub",
        "sender.pem",
        "sender.pem.pub",
    ]


def test_a_ready_zip_is_sealed_byte_for_byte(bench: Path) -> None:
    assert MAIN(arguments(bench)) == 0
    ready = bench / "ready.zip"
    with zipfile.ZipFile(ready, "w") as archive:
        archive.writestr("records.csv", b"seq\r\n")
    assert MAIN(arguments(bench, **{"in": str(ready), "out": str(bench / "second.sealed")})) == 0
    assert received(bench / "second.sealed", bench) == {"records.csv": b"seq\r\n"}


def test_it_runs_on_its_own_without_django(bench: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(SCRIPT), *arguments(bench)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listing = "print([name for name in sys.modules if name.startswith('django')])"
    probe = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); {listing}"
    done = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_private_key_file_is_the_owners_alone_and_never_overwritten(bench: Path) -> None:
    path = bench / "sender.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert MAIN(["--generate-key", str(path)]) == 5
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"number": None}, 2, "number"),
        ({"number": "../1"}, 2, "package_number"),
        ({"sender": "a b"}, 2, "sender"),
        ({"sender_key": "absent.pem"}, 3, "absent.pem"),
        ({"sender_key": "portal.pem.pub"}, 3, "portal.pem.pub"),
        ({"recipient_key": "portal.pem"}, 3, "portal.pem"),
        ({"in": "absent"}, 4, "absent"),
        ({"in": "portal.pem.pub"}, 4, "portal.pem.pub"),
        ({"in": "empty"}, 4, "empty"),
        ({"out": "sender.pem"}, 5, "sender.pem"),
        ({"out": "absent/out"}, 5, "absent/out"),
    ],
)
def test_each_mistake_has_its_exit_code_and_leaves_nothing(
    bench: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(bench)
    (bench / "empty").mkdir()
    before = {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()}
    assert MAIN(arguments(bench, **changes)) == code
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()} == before


def test_a_private_key_others_can_read_is_refused(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bench / "sender.pem").chmod(0o644)
    assert MAIN(arguments(bench)) == 3
    assert "0600" in capsys.readouterr().err
    assert not (bench / "out.sealed").exists()


def opened(bench: Path, **changes: str | None) -> int:
    """Open what `arguments` sealed, as its recipient."""
    options = {
        "open": str(bench / "out.sealed"),
        "sender": "PROVINCE",
        "sender-key": str(bench / "sender.pem.pub"),
        "recipient": "PORTAL",
        "recipient-key": str(bench / "portal.pem"),
        "out": str(bench / "opened.zip"),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    parts = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
    return MAIN(parts)


class TestOpening:
    def test_the_recipient_gets_what_was_sealed(self, bench: Path) -> None:
        """Both directions: a return file of the portal is opened with the script alone."""
        assert MAIN(arguments(bench)) == 0
        assert opened(bench) == 0
        with zipfile.ZipFile(bench / "opened.zip") as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert (bench / "opened.zip").stat().st_mode & 0o777 == 0o600
        assert not (bench / "opened.zip.part").exists()

    @pytest.mark.parametrize(
        ("changes", "code", "said"),
        [
            ({"recipient": "BANK"}, 6, "wrong_recipient"),
            ({"sender": "BANK"}, 6, "PROVINCE"),
            ({"sender_key": "portal.pem.pub"}, 6, "bad_signature"),
            ({"recipient_key": "sender.pem"}, 6, "wrong_key"),
            ({"recipient_key": "portal.pem.pub"}, 3, "portal.pem.pub"),
            ({"sender_key": "sender.pem"}, 3, "sender.pem"),
            ({"open": "package/records.csv"}, 6, "not_a_container"),
            ({"open": "absent"}, 4, "absent"),
            ({"out": "portal.pem"}, 5, "portal.pem"),
            ({"out": None}, 2, "target"),
        ],
    )
    def test_each_mistake_has_its_exit_code_and_writes_nothing(
        self,
        bench: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        changes: dict[str, str | None],
        code: int,
        said: str,
    ) -> None:
        monkeypatch.chdir(bench)
        assert MAIN(arguments(bench)) == 0
        before = {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()}
        assert opened(bench, **changes) == code
        assert said in capfd.readouterr().err
        assert {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("place", [100, 9000, -400])
    def test_a_changed_package_leaves_no_output(
        self, bench: Path, capfd: pytest.CaptureFixture[str], place: int
    ) -> None:
        assert MAIN(arguments(bench)) == 0
        content = bytearray((bench / "out.sealed").read_bytes())
        content[place] ^= 1
        (bench / "out.sealed").write_bytes(content)
        assert opened(bench) == 6
        assert not list(bench.glob("opened*"))


class TestAccounts:
    def test_account_files_travel_with_a_manifest(self, bench: Path) -> None:
        for name in ("a.csv", "账号.XLSX"):
            (bench / name).write_bytes(name.encode())
        files = ["--accounts", str(bench / "a.csv"), str(bench / "账号.XLSX")]
        assert MAIN([*arguments(bench, **{"in": None}), *files]) == 0
        inner = received(bench / "out.sealed", bench, stored=False)
        assert json.loads(inner.pop("manifest.json")) == {
            "format": "sscard-accounts",
            "version": 1,
            "sender": "PROVINCE",
            "package_number": "20261123-001",
            "files": ["accounts/a.csv", "accounts/账号.XLSX"],
        }
        assert inner == {"accounts/a.csv": b"a.csv", "accounts/账号.XLSX": "账号.XLSX".encode()}

    @pytest.mark.parametrize(
        ("files", "code"),
        [(["a.txt"], 4), (["a.csv", "a.csv"], 4), (["absent.csv"], 4), ([f"{i}.csv" for i in range(33)], 4)],
    )
    def test_what_the_portal_would_refuse_is_not_sealed(
        self, bench: Path, capsys: pytest.CaptureFixture[str], files: list[str], code: int
    ) -> None:
        for name in set(files) - {"absent.csv"}:
            (bench / name).write_bytes(b"1")
        paths = [str(bench / name) for name in files]
        assert MAIN([*arguments(bench, **{"in": None}), "--accounts", *paths]) == code
        assert not (bench / "out.sealed").exists()

    def test_one_kind_of_content_is_asked_for(self, bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert MAIN([*arguments(bench), "--accounts", "a.csv"]) == 2
        assert MAIN(arguments(bench, **{"in": None})) == 2


class TestProof:
    def test_the_proof_is_of_this_key_for_this_party(
        self, bench: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        assert MAIN(["--prove", str(bench / "sender.pem"), "--sender", "ICBC"]) == 0
        head, proof = capsys.readouterr().out.splitlines()
        key = Sm2PublicKey.from_pem((bench / "sender.pem.pub").read_text())
        assert key.fingerprint() in head
        assert proves_possession("ICBC", key, proof)
        assert not proves_possession("ABC", key, proof)
        assert not proves_possession("ICBC", Sm2PrivateKey.generate().public, proof)
        assert not proves_possession("ICBC", key, proof[:-2] + "zz")

    def test_a_proof_is_asked_for_somebody(self, bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert MAIN(["--prove", str(bench / "sender.pem")]) == 2
        assert MAIN(["--prove", str(bench / "sender.pem"), "--sender", "a b"]) == 2


def test_a_full_disk_leaves_no_half_container(
    bench: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: io.BufferedIOBase, target: io.BufferedIOBase, **parties: object) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(MAIN.__globals__, "seal_package", full)
    before = sorted(bench.iterdir())
    assert MAIN(arguments(bench)) == 5
    assert "No space left" in capsys.readouterr().err
    assert sorted(bench.iterdir()) == before
