"""Scripts for one card: identify it, write everything, read it back, prove the maker's key dead (R-18, R-25).

Pure: no database, no settings. What must be remembered between two steps is in `memory`, which holds nothing
but challenges and expectations; the caller seals it. The station only carries the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from production.personalization.ber import find_ber
from production.personalization.card_reading import compared, read_back
from production.personalization.card_work import (
    ENVIRONMENT,
    CardJob,
    CardResponse,
    OtherCityCardError,
    TestKeyCardError,
    UnfinishedCardError,
    UsedCardError,
    Verification,
    WrongAlgorithmError,
    WrongCardError,
    WrongTypeError,
)
from production.personalization.card_writing import (
    guard_blank,
    prove_transport_key,
    replace_transport_key,
    write_files,
    write_keys,
)
from production.personalization.chip_photo import chip_photo
from production.personalization.payment import (
    PaymentData,
    PaymentSession,
    begin_payment,
    read_payment,
    write_payment,
)
from production.personalization.script_commands import (
    NO_KEY,
    OK,
    Command,
    Phase,
    Script,
    ScriptWriter,
)

__all__ = [
    "CardJob",
    "CardResponse",
    "Command",
    "OtherCityCardError",
    "PaymentData",
    "Phase",
    "Script",
    "TestKeyCardError",
    "UnfinishedCardError",
    "UsedCardError",
    "Verification",
    "WrongAlgorithmError",
    "WrongCardError",
    "WrongTypeError",
    "identify",
    "personalize",
    "reidentify",
    "reread",
    "verify",
    "verify_reread",
]

BLANK, PERSONALISED = 0x01, 0x05
PUBLIC_KEY = bytes(range(0x40, 0x50))


def identify(job: CardJob) -> tuple[Script, bytes]:
    """Return the first script: what card is it, whose keys does it hold, and its challenge."""
    return _identification(job, with_payment=job.payment is not None)


def reidentify(job: CardJob) -> tuple[Script, bytes]:
    """Return the first script for a card of unknown outcome that was put in again."""
    return _identification(job, with_payment=False)


def personalize(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> tuple[Script, bytes]:
    """Return the script that does everything else; raise WrongCardError with nothing written."""
    start = _identified(job, memory, responses, BLANK)
    if job.transport_key == PUBLIC_KEY and not job.accept_test_keys:
        raise TestKeyCardError("白卡使用公开的测试密钥，不得制作正式卡")
    job = _with_chip_photo(job)
    writer = ScriptWriter.of(job.profile.algorithm, start)
    if job.payment is not None:  # its session ends when another application is selected
        host = bytes.fromhex(json.loads(memory)["host"])
        write_payment(writer, job.payment, PaymentSession.opened(job.payment, host, responses[-2].data))
    guard_blank(writer, job)
    write_keys(writer, job)
    write_files(writer, job)
    read_back(writer, job)
    if job.payment is not None:
        read_payment(writer, job.payment)
    replace_transport_key(writer, job)
    return tuple(writer.commands), _remembered(writer)


def reread(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> tuple[Script, bytes]:
    """Return the script that reads a finished card again; raise WrongCardError for an unfinished one."""
    start = _identified(job, memory, responses, PERSONALISED)
    job = _with_chip_photo(job)
    writer = ScriptWriter.of(job.profile.algorithm, start)
    read_back(writer, job)
    if job.payment is not None:
        read_payment(writer, job.payment)
    prove_transport_key(writer, job)
    return tuple(writer.commands), _remembered(writer)


def verify(job: CardJob, memory: bytes, responses: Sequence[CardResponse]) -> Verification:
    """Compare every answer with what it must be, and what was read with the record, tag by tag (R-18)."""
    remembered = json.loads(memory)
    checks, expected = remembered["checks"], remembered["expect"]
    for check, response, allowed in zip(checks, responses, expected, strict=False):
        if response.sw not in allowed:
            if check and check[0] == "refusal":
                return Verification(False, check[1], check[2])
            return Verification(False, "card_refused", f"卡片拒绝了命令（{response.sw:04X}）")
    if len(responses) != len(expected):
        return Verification(False, "incomplete", "写卡没有做完")
    return compared(job, checks, responses)


verify_reread = verify


def _with_chip_photo(job: CardJob) -> CardJob:
    """Return the job with its photo as the chip holds it, made once for writing and reading."""
    size = next((file.size for _, file in job.profile.files() if file.source), 0)
    return replace(job, photo=chip_photo(job.photo, size) if job.photo and size else b"")


def _identification(job: CardJob, *, with_payment: bool) -> tuple[Script, bytes]:
    writer = ScriptWriter.of(job.profile.algorithm)
    writer.select(job.environment.aid, "选择社保环境")
    irk, key = job.key(ENVIRONMENT, "IRK")
    proof = writer.ask_proof(
        irk.key_id, key, os.urandom(8), os.urandom(8), "识别卡片密钥", expect=(OK, *NO_KEY)
    )
    memory: dict[str, Any] = {"proof": proof.hex(), "commands": 3}
    if with_payment and job.payment is not None:
        host = os.urandom(8)
        begin_payment(writer, job.payment, host)
        memory |= {"host": host.hex(), "commands": 5}
    writer.challenge()
    return tuple(writer.commands), json.dumps(memory).encode()


def _identified(job: CardJob, memory: bytes, responses: Sequence[CardResponse], state: int) -> bytes:
    """Judge what the card said of itself; return the freshness value of its challenge."""
    remembered = json.loads(memory)
    cipher = ScriptWriter.of(job.profile.algorithm).cipher
    if not responses or responses[0].sw != OK:
        raise WrongTypeError("读写器中的不是社会保障卡白卡")
    control = find_ber(responses[0].data, 0x6F) or b""
    named = find_ber(control, 0xA5, 0x9F0C)
    algorithm = named[2] if named and len(named) == 3 else 0x01  # absent: 3DES
    if algorithm != cipher.code:
        raise WrongAlgorithmError("卡片算法不符", expected=cipher.title, got=f"{algorithm:02X}")
    if len(responses) > 1 and responses[1].sw == OK and responses[1].data.hex() != remembered["proof"]:
        raise OtherCityCardError("卡片密钥不是本地的，可能是其他城市的卡")
    _check_state(control, state)
    complete = len(responses) == remembered["commands"]
    # A blank has no key to prove yet; everything else it must have answered.
    if not complete or responses[1].sw not in (OK, *NO_KEY) or any(r.sw != OK for r in responses[2:]):
        raise WrongTypeError("读写器中的卡片没有按白卡应答")
    return cipher.start(responses[-1].data)


def _check_state(control: bytes, state: int) -> None:
    """Compare the life cycle (8A, A-9) with what the step needs."""
    found = (find_ber(control, 0x8A) or b"\x00")[0]
    if found != state and state == BLANK:
        raise UsedCardError("这张卡已经使用过", got=f"{found:02X}")
    if found != state:
        raise UnfinishedCardError("这张卡没有写完", got=f"{found:02X}")


def _remembered(writer: ScriptWriter) -> bytes:
    expect = [list(command.expect) for command in writer.commands]
    return json.dumps({"checks": writer.checks, "expect": expect}).encode()
