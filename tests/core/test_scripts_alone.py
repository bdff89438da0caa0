"""Scripts for other people's machines say what they lack, and never that something does not hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "script"


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("verify_certificate.py", 2, "无法核对：缺少 gmssl_pyx，请先 pip install gmssl_pyx\n"),
        ("verify_audit.py", 2, "无法核对：缺少 cryptography，请先 pip install cryptography gmssl_pyx\n"),
        ("seal_package.py", 1, "缺少 cryptography，请先 pip install cryptography gmssl_pyx\n"),
    ],
)
def test_a_missing_library_is_named(script: str, code: int, said: str) -> None:
    """Exit code 1 of a verification means that the thing is false: a missing library is not that."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", str(SCRIPTS / script), "file"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)
