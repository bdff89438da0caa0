"""Scripts for one card: identify it, write everything, read it back, prove the maker's key dead (R-18, R-25).

Pure: no database, no settings. What must be remembered between two steps is in `memory`, which holds nothing
but challenges and expectations; the caller seals it. The station only carries the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portal.core.errors import InputRefusedError
from production.personalization.card_crypto import sealed_block
from production.personalization.chip import ChipContent
from production.personalization.profile import Application, CardKey, CardProfile, ElementaryFile
from production.personalization.script_commands import (
    TRIES_LEFT,
    Command,
    Phase,
    Script,
    ScriptWriter,
)
from production.personalization.tlv import decode_records

__all__ = ["CardJob", "CardResponse", "Command", "Phase", "Script", "Verification", "WrongCardError"]

BLANK, PERSONALISED = 0x01, 0x05
SM4_CARD = 0x03
KEY_VERSION, KEY_TRIES, TRANSPORT_USAGE = 0x01, 0x0F, 0x08
PUBLIC_KEY = bytes(range(0x40, 0x50))
ENVIRONMENT = "SSSE"


class WrongCardError(InputRefusedError):
    """The card in the reader is not the blank that was chosen; nothing was written to it."""

    code = "card_wrong"


class WrongTypeError(WrongCardError):
    """No social security card, or one of another algorithm."""

    code = "card_wrong_type"


class UsedCardError(WrongCardError):
    """A card that was initialised or personalised already."""

    code = "card_used"


class TestKeyCardError(WrongCardError):
    """A blank that only has the publicly known transport key, where such cards are not accepted."""

    code = "card_test_key"


class UnfinishedCardError(WrongCardError):
    """A card to be read again that was never finished."""

    code = "card_unfinished"


@dataclass(frozen=True, slots=True)
class PaymentData:
    """What the bank supplies for the payment application, as data groups by their identifier."""

    groups: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CardResponse:
    """What the card answered to one command."""

    data: bytes = field(repr=False)
    sw: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What the answers prove: good, or the code, words and tags that differ; `readback` is what was read."""

    good: bool
    code: str
    text: str
    tags: tuple[str, ...] = ()
    readback: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class CardJob:
    """Everything about one card; keys by full name at card level."""

    profile: CardProfile
    chip: ChipContent = field(repr=False)
    keys: Mapping[str, bytes] = field(repr=False)
    atr: bytes
    city_code: str
    transport_key: bytes = field(repr=False)
    new_transport_key: bytes = field(repr=False)
    photo: bytes = field(default=b"", repr=False)
    payment: PaymentData | None = field(default=None, repr=False)
    pin: str = field(default="", repr=False)
    accept_test_keys: bool = False


def identify(job: CardJob) -> tuple[Script, bytes]:
    """Return the first script: what card is it, and its challenge."""
    writer = ScriptWriter()
    writer.select(_environment(job.profile).aid, "选择社保环境")
    writer.challenge()
    return tuple(writer.commands), b""


reidentify = identify


def personalize(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> tuple[Script, bytes]:
    """Return the script that does everything else; raise WrongCardError with nothing written."""
    start = _identified(job, responses, BLANK)
    if job.transport_key == PUBLIC_KEY and not job.accept_test_keys:
        raise TestKeyCardError("白卡使用公开的测试密钥，不得制作正式卡")
    writer = ScriptWriter(start)
    _write_keys(writer, job)
    _write_files(writer, job)
    _read_back(writer, job)
    _replace_transport_key(writer, job)
    return tuple(writer.commands), _remembered(writer)


def reread(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> tuple[Script, bytes]:
    """Return the script that reads a finished card again; raise WrongCardError for an unfinished one."""
    writer = ScriptWriter(_identified(job, responses, PERSONALISED))
    _read_back(writer, job)
    _prove_transport_key(writer, job)
    return tuple(writer.commands), _remembered(writer)


def verify(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> Verification:
    """Compare every answer with what it must be, and what was read with the record, tag by tag (R-18)."""
    remembered = json.loads(memory)
    checks, expected = remembered["checks"], remembered["expect"]
    for response, allowed in zip(responses, expected, strict=False):
        if response.sw not in allowed:
            return Verification(False, "card_refused", f"卡片拒绝了命令（{response.sw:04X}）")
    if len(responses) < len(expected):
        return Verification(False, "incomplete", "写卡没有做完")
    return _compared(job, checks, responses)


verify_reread = verify


def _compared(job: CardJob, checks: Sequence[Any], responses: Sequence[CardResponse]) -> Verification:
    read: dict[str, bytes] = {}
    for check, response in zip(checks, responses, strict=True):
        if check is None:
            continue
        if check[0] == "equal" and response.data.hex() != check[1]:
            return Verification(False, "card_not_authentic", "卡片内部认证不符")
        if check[0] == "read":
            read[check[1]] = read.get(check[1], b"") + response.data
    readback = ChipContent(job.profile.code, read).to_bytes()
    tags = tuple(_differing(job.chip.files, read))
    if tags:
        return Verification(False, "wrong_card", "读回与记录不一致", tags, readback)
    return Verification(True, "", "", (), readback)


def _differing(wanted: Mapping[str, bytes], read: Mapping[str, bytes]) -> list[str]:
    found = []
    for path, content in wanted.items():
        if read.get(path) == content:
            continue
        got = dict(decode_records(read[path])) if path in read else {}
        found += [f"{path}/{tag:02X}" for tag, value in decode_records(content) if got.get(tag) != value] or [
            path
        ]
    return found


def _identified(job: CardJob, responses: Sequence[CardResponse], state: int) -> bytes:
    """Read the card's state and algorithm from its answer; return the freshness value of its challenge."""
    if len(responses) != 2 or any(response.sw != 0x9000 for response in responses):
        raise WrongTypeError("读写器中的不是社会保障卡白卡")
    algorithm, found = _control(responses[0].data)
    if algorithm != SM4_CARD:
        raise WrongTypeError("卡片算法不符", expected="SM4", got=f"{algorithm:02X}")
    if found != state and state == BLANK:
        raise UsedCardError("这张卡已经使用过", got=f"{found:02X}")
    if found != state:
        raise UnfinishedCardError("这张卡没有写完", got=f"{found:02X}")
    return responses[1].data.ljust(16, b"\x00")


def _control(fci: bytes) -> tuple[int, int]:
    """Return algorithm and life cycle from the FCI: 9F0C 03 86 01 xx, and tag 8A."""
    at, life = fci.find(bytes.fromhex("9f0c")), fci.find(b"\x8a\x01")
    algorithm = fci[at + 5] if at >= 0 and len(fci) > at + 5 else 0x01
    return algorithm, fci[life + 2] if life >= 0 and len(fci) > life + 2 else 0


def _write_keys(writer: ScriptWriter, job: CardJob) -> None:
    for application in job.profile.applications:
        keys = [key for key in job.profile.keys if key.application == application.name]
        if not keys:
            continue
        writer.select(application.aid, f"选择{application.title}")
        for key in keys:
            block = bytes((key.usage, SM4_CARD, KEY_VERSION, KEY_TRIES)) + job.keys[key.full_name]
            writer.write_key(key.key_id, block, job.transport_key, f"写密钥 {key.full_name}", Phase.WRITE)


def _write_files(writer: ScriptWriter, job: CardJob) -> None:
    for application in job.profile.applications:
        files = [file for file in application.files if f"{application.name}/{file.file_id}" in job.chip.files]
        if not files:
            continue
        writer.select(application.aid, f"选择{application.title}")
        key = job.keys[_update_key(job.profile, application).full_name]
        for file in files:
            path = f"{application.name}/{file.file_id}"
            for tag, value in decode_records(job.chip.files[path]):
                head = bytes((0x84, 0xDC, tag, _short_id(file.file_id) << 3))
                writer.secured(
                    head, bytes((tag, len(value))) + value, key, f"写 {path} {tag:02X}", Phase.WRITE
                )
        if application.name == ENVIRONMENT and job.pin:
            _set_pin(writer, job)


def _set_pin(writer: ScriptWriter, job: CardJob) -> None:
    puk = _named(job, ENVIRONMENT, "PUK")
    sealed = sealed_block(puk, _pin_bytes(job.pin))
    writer.secured(b"\x84\x24\x00\x01", sealed, puk, "设置初始密码", Phase.WRITE)


def _read_back(writer: ScriptWriter, job: CardJob) -> None:
    environment = _environment(job.profile)
    writer.select(environment.aid, "选择社保环境")
    if job.pin:
        pin = _pin_bytes(job.pin)
        writer.add(b"\x00\x20\x00\x00" + bytes((len(pin),)) + pin, "核对密码", Phase.AUTHENTICATE)
    irk = _key(job.profile, ENVIRONMENT, "IRK")
    writer.ask_proof(irk.key_id, job.keys[irk.full_name], os.urandom(8), os.urandom(8), "卡片内部认证")
    for application in job.profile.applications:
        if application.name != ENVIRONMENT:
            writer.select(application.aid, f"选择{application.title}")
        _read_files(writer, job, application)


def _read_files(writer: ScriptWriter, job: CardJob, application: Application) -> None:
    """Read the application's record files, each after what its access rule asks for."""
    proven: set[str] = set()
    for file in application.files:
        path = f"{application.name}/{file.file_id}"
        if path not in job.chip.files or ("PIN" in file.read and not job.pin):
            continue
        for name in sorted(_read_keys(file) - proven):
            _prove_key(writer, job, application.name, name)
            proven.add(name)
        for tag, value in decode_records(job.chip.files[path]):
            writer.read(path, tag, len(value), _short_id(file.file_id))


def _read_keys(file: ElementaryFile) -> set[str]:
    """Return the keys a reader must prove; where the PIN alone would do, none."""
    words = file.read.split()
    return set() if "or" in words else set(words) - {"and", "PIN", "free"}


def _prove_key(writer: ScriptWriter, job: CardJob, application: str, name: str) -> None:
    key = _key(job.profile, application, name)
    writer.prove(key.key_id, job.keys[key.full_name], os.urandom(8), f"外部认证 {key.full_name}")


def _replace_transport_key(writer: ScriptWriter, job: CardJob) -> None:
    writer.select_root()
    block = bytes((TRANSPORT_USAGE, SM4_CARD, KEY_VERSION, KEY_TRIES)) + job.new_transport_key
    writer.write_key(0x00, block, job.transport_key, "替换传输密钥", Phase.FINISH)
    _prove_transport_key(writer, job, selected=True)


def _prove_transport_key(writer: ScriptWriter, job: CardJob, *, selected: bool = False) -> None:
    if not selected:
        writer.select_root()
    writer.prove(0x00, job.new_transport_key, os.urandom(8), "新传输密钥有效")
    writer.prove(0x00, job.transport_key, os.urandom(8), "旧传输密钥已失效", expect=TRIES_LEFT)


def _remembered(writer: ScriptWriter) -> bytes:
    expect = [list(command.expect) for command in writer.commands]
    return json.dumps({"checks": writer.checks, "expect": expect}).encode()


def _environment(profile: CardProfile) -> Application:
    return next(found for found in profile.applications if found.name == ENVIRONMENT)


def _update_key(profile: CardProfile, application: Application) -> CardKey:
    """Return the key that secures an application's updates: its first update key that makes a MAC."""
    keys = [key for key in profile.keys if key.application == application.name and key.name.startswith("UK")]
    return min((key for key in keys if key.key_type == 8), key=lambda key: key.key_id)


def _key(profile: CardProfile, application: str, name: str) -> CardKey:
    return next(key for key in profile.keys if (key.application, key.name) == (application, name))


def _named(job: CardJob, application: str, name: str) -> bytes:
    return job.keys[_key(job.profile, application, name).full_name]


def _short_id(file_id: str) -> int:
    return int(file_id, 16) & 0x1F


def _pin_bytes(pin: str) -> bytes:
    return bytes.fromhex(pin if len(pin) % 2 == 0 else f"{pin}F")
