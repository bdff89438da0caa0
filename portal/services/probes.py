"""Probes: what to look for after a destruction, written before it and sealed under a key of its own (R-22).

A probe holds the very data whose absence it is to prove. It is opened by the scan only, and destroyed after
it; one that is forgotten loses its key to the sweep of keys that no row names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from portal.core.crypto import sm3
from portal.core.errors import InputRefusedError
from portal.core.key_files import shred
from portal.core.key_refusals import KeyMissingError
from portal.core.keystore import KeyPurpose
from portal.core.seal import SealedWriter, open_sealed
from portal.core.trace_forms import Needle
from portal.files import keystore

_CONTEXT = b"portal.probe"
_HEAD = 33  # the key's id and a line end
SHORTEST_TEXT = 2
SHORTEST_PLAIN = 5


class ProbeRefusedError(InputRefusedError):
    """A file that is no probe, or a line that names nothing to look for."""

    code = "probe_refused"


class Wanted(NamedTuple):
    """What a scan looks for: values, and SM3 digests of whole photos by label."""

    needles: list[Needle]
    digests: list[tuple[str, bytes]]


def write_probe(path: Path, items: Iterable[tuple[str, str | bytes]]) -> int:
    """Write (label, text or photo) to a new sealed file of mode 0600; return how many items."""
    count = 0
    with ExitStack() as undo:
        key_id = keystore().create(KeyPurpose.PROBE, "probe")
        undo.callback(keystore().destroy, key_id)
        with path.open("xb") as file:
            undo.callback(path.unlink)
            path.chmod(0o600)
            file.write(f"{key_id}\n".encode())
            with SealedWriter(file, keystore().key(key_id), _CONTEXT) as target:
                for label, value in items:
                    target.write(_line(label, value))
                    count += 1
        undo.pop_all()
    return count


def _line(label: str, value: str | bytes) -> bytes:
    if isinstance(value, str):
        return json.dumps({"label": label, "text": value}).encode() + b"\n"
    stretch = Needle.photo(label, value).value
    assert isinstance(stretch, bytes)
    return json.dumps({"label": label, "photo": sm3(value).hex(), "stretch": stretch.hex()}).encode() + b"\n"


def read_probe(path: Path) -> Wanted:
    """Open a probe; raises KeyDestroyedError once it was used up."""
    with path.open("rb") as file:
        key_id = file.read(_HEAD).decode("ascii", "replace").strip()
        if len(key_id) != _HEAD - 1:
            raise ProbeRefusedError("不是探针文件", where=path.name)
        try:
            key = keystore().key(key_id)
        except KeyMissingError as exc:
            raise ProbeRefusedError("不是本系统的探针文件", where=path.name) from exc
        lines = open_sealed(io.BytesIO(file.read()), key, _CONTEXT).readall().splitlines()
    return _wanted(map(json.loads, lines))


def _wanted(items: Iterable[dict[str, str]]) -> Wanted:
    wanted = Wanted([], [])
    for item in items:
        if "text" in item:
            wanted.needles.append(Needle(item["label"], item["text"]))
            continue
        wanted.needles.append(Needle(f"{item['label']}（内容）", bytes.fromhex(item["stretch"])))
        wanted.digests.append((item["label"], bytes.fromhex(item["photo"])))
    return wanted


def destroy_probe(path: Path) -> None:
    """Destroy a probe's key and its file; doing it twice changes nothing."""
    if not path.exists():
        return
    with path.open("rb") as file:
        key_id = file.read(_HEAD).decode("ascii", "replace").strip()
    try:
        keystore().destroy(key_id)
    finally:
        shred(path)


def read_lines(lines: Iterable[str]) -> Wanted:
    """Read what a person types: a value a line, `label<TAB>value`, or `sm3:<64 digits>` for a photo."""
    wanted = Wanted([], [])
    for place, text in _typed(lines):
        label, _, value = text.rpartition("\t")
        label = label or f"第 {place} 行"
        if value.startswith("sm3:"):
            wanted.digests.append((label, _digest(value, place)))
            continue
        if len(value) < (SHORTEST_PLAIN if value.isascii() else SHORTEST_TEXT):
            raise ProbeRefusedError("要找的值太短，处处都会出现", where=f"第 {place} 行")
        wanted.needles.append(Needle(label, value))
    if not wanted.needles and not wanted.digests:
        raise ProbeRefusedError("没有给出要找的值", expected="每行一个")
    return wanted


def _typed(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for place, line in enumerate(lines, 1):
        text = line.strip("\r\n ")
        if text:
            yield place, text


def _digest(value: str, place: int) -> bytes:
    try:
        digest = bytes.fromhex(value.removeprefix("sm3:"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ProbeRefusedError("照片摘要须为 64 位十六进制", where=f"第 {place} 行")
    return digest
