"""Commands that read a card back, each file after what its rule asks for, and the comparison (R-18)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from production.personalization.ber import find_ber
from production.personalization.card_work import (
    ENVIRONMENT,
    CardJob,
    CardResponse,
    Verification,
    short_id,
)
from production.personalization.chip import ChipContent
from production.personalization.profile import Application, ElementaryFile
from production.personalization.script_commands import Phase, ScriptWriter
from production.personalization.tlv import TlvError, decode_records

_READ_BYTES = 255


def read_back(writer: ScriptWriter, job: CardJob) -> None:
    """Read everything that personalization wrote and may be read; the card proves itself first."""
    writer.select(job.environment.aid, "选择社保环境")
    if job.pin:
        pin = job.pin_bytes
        writer.add(b"\x00\x20\x00\x00" + bytes((len(pin),)) + pin, "核对密码", Phase.AUTHENTICATE)
    irk, key = job.key(ENVIRONMENT, "IRK")
    writer.ask_proof(irk.key_id, key, os.urandom(8), os.urandom(8), "卡片内部认证")
    for application in job.profile.applications:
        if application.name != ENVIRONMENT:
            writer.select(application.aid, f"选择{application.title}")
        _read_files(writer, job, application)


def compared(job: CardJob, checks: Sequence[Any], responses: Sequence[CardResponse]) -> Verification:
    """Judge answers that all came with a status word that was allowed."""
    read: dict[str, bytes] = {}
    tags: list[str] = []
    for check, response in zip(checks, responses, strict=True):
        kind, *rest = check or ("",)
        if kind == "proof" and response.data.hex() != rest[0]:
            return Verification(False, "card_not_authentic", "卡片内部认证不符")
        if kind == "read":
            read[rest[0]] = read.get(rest[0], b"") + response.data
        elif kind == "same" and find_ber(response.data, *rest[2]) != bytes.fromhex(rest[0]):
            tags.append(rest[1])
    readback = ChipContent(job.profile.code, read).to_bytes()
    found = tuple(dict.fromkeys([*_differing(_readable(job), read), *tags]))
    if found:
        return Verification(False, "wrong_card", "读回与记录不一致", found, readback)
    return Verification(True, "", "", (), readback)


def _readable(job: CardJob) -> dict[str, bytes]:
    """Return the files that were written and could be read: some need the PIN."""
    rules = dict(job.profile.files())
    return {path: content for path, content in job.chip.files.items() if _may_read(job, rules[path])}


def _may_read(job: CardJob, file: ElementaryFile) -> bool:
    return "PIN" not in file.read or bool(job.pin)


def _differing(wanted: Mapping[str, bytes], read: Mapping[str, bytes]) -> Iterable[str]:
    for path, content in wanted.items():
        if read.get(path) == content:
            continue
        try:
            got = dict(decode_records(read.get(path, b"")))
        except TlvError:
            got = {}
        tags = [f"{path}/{tag:02X}" for tag, value in decode_records(content) if got.get(tag) != value]
        yield from tags or [path]


def _read_files(writer: ScriptWriter, job: CardJob, application: Application) -> None:
    proven: set[str] = set()
    for file in application.files:
        path = f"{application.name}/{file.file_id}"
        written = bool(file.source and job.photo) or path in job.chip.files
        if not (written and _may_read(job, file)):
            continue
        for name in sorted(_read_keys(file) - proven):
            key, value = job.key(application.name, name)
            writer.prove(key.key_id, value, os.urandom(8), f"外部认证 {key.full_name}")
            proven.add(name)
        if file.source:
            _read_photo(writer, path, file, job.photo)
            continue
        for tag, value in decode_records(job.chip.files[path]):
            writer.read(path, tag, len(value), short_id(file.file_id))


def _read_keys(file: ElementaryFile) -> set[str]:
    """Return the keys a reader must prove; where the PIN alone would do, none."""
    words = file.read.split()
    return set() if "or" in words else set(words) - {"and", "PIN", "free"}


def _read_photo(writer: ScriptWriter, path: str, file: ElementaryFile, photo: bytes) -> None:
    writer.select_file(file.file_id, f"选择{file.title}")
    for at in range(0, len(photo), _READ_BYTES):
        part = photo[at : at + _READ_BYTES]
        apdu = b"\x00\xb0" + at.to_bytes(2) + bytes((len(part),))
        writer.add(apdu, f"读 {path} 偏移 {at}", Phase.READ, check=["same", part.hex(), path, []])
