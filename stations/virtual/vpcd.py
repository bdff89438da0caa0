"""A virtual card in a slot of vsmartcard's vpcd, and so behind a real pcscd (card.md §7)."""

from __future__ import annotations

import contextlib
import socket
import threading

from stations.virtual.card import SmartCard
from stations.virtual.faults import CardPulled, CardSilent

HOST, PORT = "127.0.0.1", 35963
POWER_OFF, POWER_ON, RESET, ASK_ATR = 0, 1, 2, 4
QUICK_ACK = getattr(socket, "TCP_QUICKACK", 12)
RETRY_SECONDS = 0.1
SILENCE_SECONDS = 10.0


class VpcdSlot:
    """One slot: plugs its card in whenever pcscd is there, until it is stopped or the card is pulled."""

    def __init__(
        self,
        card: SmartCard,
        *,
        port: int = PORT,
        host: str = HOST,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """`silence_seconds`: how long a mute card holds the reader, before the reader gives it up."""
        self.card = card
        self.address = (host, port)
        self._silence_seconds = silence_seconds
        self._inserted = threading.Event()
        self._inserted.set()
        self._stopping = threading.Event()
        self._pulled = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"vpcd-{port}", daemon=True)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take the card out and end the thread."""
        self._stopping.set()
        self.pull()
        self._inserted.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def pull(self) -> None:
        """Take the card out, also in the middle of a command."""
        self._inserted.clear()
        self._pulled.set()
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def insert(self, card: SmartCard | None = None) -> None:
        """Put a card in: the same one again, or another."""
        if card is not None:
            self.card = card
        self._pulled.clear()
        self._inserted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._inserted.wait()
            with contextlib.suppress(OSError):  # pcscd is not there, or went away
                self._serve()
            self._stopping.wait(RETRY_SECONDS)

    def _serve(self) -> None:
        """Connect and answer until the connection ends."""
        with socket.create_connection(self.address, timeout=5) as link:
            link.settimeout(None)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._socket = link
            try:
                while self._inserted.is_set() and (message := _receive(link)):
                    answer = self._answer(message)
                    if answer:
                        link.sendall(len(answer).to_bytes(2) + answer)
            except CardPulled:
                self._inserted.clear()
            finally:
                with self._lock:
                    self._socket = None

    def _answer(self, message: bytes) -> bytes:
        """Return what goes back, nothing for power and reset."""
        if len(message) > 1:
            return self._process(message)
        if message[0] == ASK_ATR:
            return self.card.atr
        if message[0] in (POWER_OFF, POWER_ON, RESET):
            self.card.power_on()
        return b""

    def _process(self, tpdu: bytes) -> bytes:
        try:
            answer = self.card.process(tpdu)
        except CardSilent:
            self._pulled.wait(self._silence_seconds)
            raise ConnectionAbortedError from None  # the reader gives up; the card is seen anew
        return answer.data + answer.sw.to_bytes(2)


def _receive(link: socket.socket) -> bytes:
    """Return the next message, nothing at the end of the connection."""
    length = int.from_bytes(_exactly(link, 2))
    return _exactly(link, length) if length else b""


def _exactly(link: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        # Linux forgets this option again; without it each command waits 40 ms for a delayed acknowledgement.
        link.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        part = link.recv(count - len(received))
        if not part:
            return b""
        received += part
    return received
