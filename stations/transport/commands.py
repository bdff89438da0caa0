"""The card's commands as functions over a transport (card.md §2)."""

from __future__ import annotations

from stations.transport.base import Response, Transport, TransportError
from stations.transport.status_words import OK, meaning

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


def _expect(answer: Response, command: str) -> Response:
    if answer.sw != OK:
        raise CommandRefusedError(
            "卡片拒绝了命令", where=command, expected="9000", got=f"{answer.sw:04X} {meaning(answer.sw)}"
        )
    return answer
