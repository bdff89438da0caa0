"""The stand-alone sender: what it seals the portal reads, and each mistake gets its own exit code."""

from __future__ import annotations

import errno
import io
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.core.seal import extract_payload, open_payload, read_envelope, unwrap_content_key, verify_envelope

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


def received(path: Path, bench: Path) -> dict[str, bytes]:
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
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
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
