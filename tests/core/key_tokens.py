"""A real SoftHSM2 for the tests: tokens of their own in a temporary folder, each with its PIN."""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

from portal.core.key_token import TokenWrapper, create_token_key
from portal.core.key_uri import parse_address

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
TOKENS = ("portal-a", "portal-b")
PIN = "4711-testing-0815"
OFFICER_PIN = "0815-testing-4711"


@dataclass(frozen=True)
class SoftHsm:
    """Where the module, its folder and the file with the PIN are."""

    module: str
    folder: Path
    pin_file: Path

    def uri(self, label: str, token: str = TOKENS[0], pin: str = "") -> str:
        """Name a key of a token as PORTAL_KEK does."""
        source = pin or f"file:{self.pin_file}"
        return (
            f"pkcs11:token={quote(token)};object={quote(label)}?module-path={self.module}&pin-source={source}"
        )

    def wrapper(self, label: str, token: str = TOKENS[0]) -> TokenWrapper:
        """Return the wrapper of a key, which is made when it is not there yet."""
        address = parse_address(self.uri(label, token))
        if (label, token) not in _made:
            create_token_key(address)
            _made.add((label, token))
        return TokenWrapper(address)


_made: set[tuple[str, str]] = set()


@cache
def soft_hsm() -> SoftHsm:
    """Set up tokens once a process; SOFTHSM2_CONF is read when the module is first loaded."""
    # The session's folder, where there is one, goes with the session.
    folder = Path(tempfile.mkdtemp(prefix="tokens-", dir=os.environ.get("PORTAL_TEST_VAR")))
    (folder / "tokens").mkdir(mode=0o700)
    atexit.register(rmtree, folder, ignore_errors=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    pin_file = folder / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(f"{PIN}\n")
    for label in TOKENS:
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free", "--label", label),
                *("--pin", PIN, "--so-pin", OFFICER_PIN),
            ],
            check=True,
            capture_output=True,
        )
    module = next(path for path in MODULES if Path(path).exists())
    return SoftHsm(module, folder, pin_file)
