"""P7: one APDU's round trip, in process and through a real pcscd with vpcd; an issuance is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.compare import Comparison, Target, Variant
from bench.readers import daemon
from stations.transport.base import Transport
from stations.transport.virtual import VirtualTransport
from stations.virtual.samples import SERIAL, issued_card
from tests.stations.pcsc import Desk

ROUND_TRIPS = 300
SELECT_SSSE = bytes.fromhex("00A4040C0F7378312E73682EC9E7BBE1B1A3D5CF")
SELECT_PHOTO = bytes.fromhex("00A4020002EF08")
COMMANDS = {13: bytes.fromhex("0084000008"), 255: bytes.fromhex("00B00000F8")}  # bytes out and back together


def exchanged(transport: Transport, command: bytes) -> int:
    for _ in range(ROUND_TRIPS):
        assert transport.exchange(command).sw == 0x9000
    return ROUND_TRIPS


def bare(command: bytes, reader: str) -> int:
    """Make the same calls with nothing of ours around them."""
    from smartcard import scard

    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _, card, _ = scard.SCardConnect(context, reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0)
    for select in (SELECT_SSSE, SELECT_PHOTO):
        scard.SCardTransmit(card, scard.SCARD_PCI_T0, list(select))
    for _ in range(ROUND_TRIPS):
        code, _ = scard.SCardTransmit(card, scard.SCARD_PCI_T0, list(command))
        assert code == scard.SCARD_S_SUCCESS
    scard.SCardReleaseContext(context)
    return ROUND_TRIPS


def connected(transport: Any) -> int:
    transport.connect()
    transport.disconnect()
    return 1


def selected(transport: Transport) -> None:
    """Begin anew with the photo's file selected, which is read freely."""
    transport.connect()
    for select in (SELECT_SSSE, SELECT_PHOTO):
        assert transport.exchange(select).sw == 0x9000


def comparisons() -> Iterator[Comparison]:
    """Compare the transport with bare PC/SC calls; nothing without pcscd and vpcd."""
    service = daemon()
    if service is None:
        return
    from stations.transport.pcsc import PcscTransport

    desk = Desk(service.port, "--issued")
    reader, inside = PcscTransport(), VirtualTransport(issued_card(SERIAL))
    assert reader.wait_for_card(10)
    name = next(name for name, there in reader.readers().items() if there)
    for size, command in COMMANDS.items():
        variants = [
            Variant("ours", "PcscTransport", partial(exchanged, reader, command), partial(selected, reader)),
            Variant("limit", "bare SCardTransmit", partial(bare, command, name), reader.close),
            Variant("peer", "in process", partial(exchanged, inside, command), partial(selected, inside)),
        ]
        targets = [Target("bare SCardTransmit", 0.5), Target("", 1000)]
        yield Comparison("P7", f"APDU round trips of {size} bytes", "APDUs", variants, targets)
    connect = Variant("ours", "connect, reset, transaction, power down", partial(connected, reader))
    yield Comparison("P7", "connections to a card", "connections", [connect], [Target("", 20)])
    reader.close()
    desk.kill()
