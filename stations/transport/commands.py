"""The card's commands as functions over a transport (card.md §2)."""

from __future__ import annotations

from stations.transport.base import Response, Transport, TransportError
from stations.transport.status_words import OK, meaning

PSAM_AID = bytes.fromhex("D15600000590")
ABSENT = frozenset({0x6A83, 0x6A88})


class CommandRefusedError(TransportError):
    """The card answered a command with an error; `got` is status word and meaning."""

    code = "command_refused"


def select_environment(transport: Transport, aid: bytes) -> bytes:
    """Select an application by AID and return its FCI."""
    return _expect(transport.transmit(b"\x00\xa4\x04\x00" + bytes((len(aid),)) + aid), "SELECT").data


def select_file(transport: Transport, file_id: str) -> None:
    """Select an elementary file of the application, e.g. `EF05`."""
    _expect(transport.transmit(b"\x00\xa4\x02\x00\x02" + bytes.fromhex(file_id)), f"SELECT {file_id}")


def read_tag(transport: Transport, tag: int, length: int) -> bytes:
    """Return the record of a tag with its two leading bytes; empty when the card lacks it, like 4E before."""
    answer = transport.transmit(bytes((0x00, 0xB2, tag, 0x00, length + 2)))
    return b"" if answer.sw in ABSENT else _expect(answer, f"READ RECORD {tag:02X}").data


def challenge(transport: Transport) -> bytes:
    """Return the card's random number."""
    return _expect(transport.transmit(bytes.fromhex("0084000008")), "GET CHALLENGE").data


def internal_authenticate(transport: Transport, key_id: int, body: bytes) -> bytes:
    """Have the card encrypt process factor and data under one of its keys."""
    return _expect(
        transport.transmit(b"\x00\x88\x00" + bytes((key_id, len(body))) + body), "INTERNAL AUTHENTICATE"
    ).data


def external_authenticate(transport: Transport, key_id: int, body: bytes) -> None:
    """Show the card a cryptogram and the data it was made from."""
    _expect(transport.transmit(b"\x00\x82\x00" + bytes((key_id, len(body))) + body), "EXTERNAL AUTHENTICATE")


def psam_cryptogram(psam: Transport, usage: int, key_id: int, factors: bytes, text: bytes) -> bytes:
    """Have a PSAM derive a card's key by the factors, process factor last, and encrypt data (§8)."""
    select_environment(psam, PSAM_AID)
    start = bytes((0xBF, 0xDE, usage, key_id, len(factors))) + factors
    _expect(psam.transmit(start), "PSAM: DERIVE")
    return _expect(psam.transmit(b"\x80\xfa\x00\x00" + bytes((len(text),)) + text), "PSAM: ENCRYPT").data


def _expect(answer: Response, command: str) -> Response:
    if answer.sw != OK:
        raise CommandRefusedError(
            "卡片拒绝了命令", where=command, expected="9000", got=f"{answer.sw:04X} {meaning(answer.sw)}"
        )
    return answer
