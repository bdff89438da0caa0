"""What a reader of the LD/T 33 kind hands to a program, and the two steps with an encryption machine (HSM).

Without one, `ChipValues.summary` is the whole answer of `iReadCardBas`. With one, step 1 gives a line of
challenges, the HSM answers both, step 2 gives the card the terminal's proof and reads on (card facts, §4).
Inner: the card proves itself (INTERNAL AUTHENTICATE); outer: the terminal does (EXTERNAL AUTHENTICATE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError
from production.personalization.card_crypto import card_cipher

ALGORITHM_CODES = {"3des": "01", "sm4": "03"}
_PARTS = 9
_SUMMARY_PARTS = 11
_AREA = re.compile(r"[0-9]{6}")
_BYTES = re.compile(r"([0-9A-F]{2})*")
_EIGHT = re.compile(r"[0-9A-F]{16}")
_SIXTEEN = re.compile(r"[0-9A-F]{32}")


class ReaderLineError(InputRefusedError):
    """A line that no reader of this kind gives; never shows what stands in it."""

    code = "reader_line"


@dataclass(frozen=True, slots=True)
class HsmRequest:
    """Step 1: what the HSM needs to prove the card and the terminal; factors and contents of 8 bytes."""

    area: str
    history: bytes
    algorithm: str
    card_identifier: bytes = field(repr=False)
    inner_factor: bytes
    inner_content: bytes
    outer_factor: bytes
    outer_content: bytes
    terminal: str = ""

    def line(self) -> str:
        """Return 区划|复位信息|算法|卡识别码|内部因子|内部数据|外部因子|外部数据|终端|."""
        parts = (self.inner_factor, self.inner_content, self.outer_factor, self.outer_content)
        texts = [part.hex().upper() for part in (self.history, self.card_identifier, *parts)]
        code = ALGORITHM_CODES[self.algorithm]
        return "".join(f"{text}|" for text in (self.area, texts[0], code, *texts[1:], self.terminal))


@dataclass(frozen=True, slots=True)
class HsmAnswer:
    """What the HSM gives back: the cryptogram the card must have given, and the one the terminal gives."""

    inner: bytes = field(repr=False)
    outer: bytes = field(repr=False)


def parse_request(line: str) -> HsmRequest:
    """Read the line of step 1; raise ReaderLineError naming the part that is wrong."""
    parts = _split(line, _PARTS)
    codes = {code: name for name, code in ALGORITHM_CODES.items()}
    checks = ((0, _AREA), (1, _BYTES), (3, _SIXTEEN), *((place, _EIGHT) for place in range(4, 8)))
    for place, form in checks:
        if not form.fullmatch(parts[place]):
            raise ReaderLineError("读卡结果的内容不对", where=f"第 {place + 1} 项")
    if parts[2] not in codes:
        raise ReaderLineError("算法标识不认识", where="第 3 项", expected="、".join(sorted(codes)))
    history, identifier, *rest = (bytes.fromhex(parts[place]) for place in (1, 3, 4, 5, 6, 7))
    inner, inner_content, outer, outer_content = rest
    return HsmRequest(
        parts[0], history, codes[parts[2]], identifier, inner, inner_content, outer, outer_content, parts[8]
    )


def answer_request(request: HsmRequest, inner_key: bytes, outer_key: bytes) -> HsmAnswer:
    """Do what the HSM does with the card's keys: IRK for the card, RKssse or RK for the terminal."""
    cipher = card_cipher(request.algorithm)
    inner = cipher.authentication_block(inner_key, request.inner_factor, request.inner_content)
    outer = cipher.authentication_block(outer_key, request.outer_factor, request.outer_content)
    return HsmAnswer(cipher.folded(inner), cipher.folded(outer))


def outer_command(request: HsmRequest, answer: HsmAnswer, key_id: int) -> bytes:
    """Return the EXTERNAL AUTHENTICATE of step 2; the request's outer factor is the card's challenge."""
    return bytes((0x00, 0x82, 0x00, key_id, 0x10)) + answer.outer + request.outer_content


def parse_summary(line: str) -> dict[str, str]:
    """Read the eleven parts of `iReadCardBas` by name; raise ReaderLineError when they are not eleven."""
    return dict(zip(SUMMARY_NAMES, _split(line, _SUMMARY_PARTS), strict=True))


SUMMARY_NAMES = (
    "area", "number", "card_number", "card_identifier", "name", "history", "spec_version", "issue_on",
    "expires_on", "terminal", "device",
)  # fmt: skip


def _split(line: str, count: int) -> list[str]:
    parts = line.split("|")
    if len(parts) != count + 1 or parts[-1]:
        raise ReaderLineError("读卡结果的项数不对", expected=str(count), got=str(max(0, len(parts) - 1)))
    return parts[:-1]
