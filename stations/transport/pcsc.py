"""A card in a real reader, through PC/SC; the only module that knows pyscard.

pyscard's flat functions are used, not its classes: those have threads of their own, and CardMonitor leaks.
Every call may block for as long as a driver likes, so each runs in a lane, a thread with a time limit.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from smartcard import scard

from stations.transport.base import (
    AmbiguousReaderError,
    CardPulledError,
    CardResetError,
    CardSilentError,
    NoCardError,
    NoReaderError,
    ProtocolError,
    ReaderBusyError,
    ReaderGoneError,
    ReaderServiceError,
    Response,
    Transport,
    TransportError,
)

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
REMOVAL_SECONDS = 1.0  # the service looks for the card every 0.4 s
STATE_LENGTH = 60

T = TypeVar("T")
Kind = tuple[type[TransportError], str]

ERRORS: Mapping[int, Kind] = {
    scard.SCARD_E_NO_READERS_AVAILABLE: (NoReaderError, "没有连接读写器"),
    scard.SCARD_E_UNKNOWN_READER: (ReaderGoneError, "读写器已断开"),
    scard.SCARD_E_READER_UNAVAILABLE: (ReaderGoneError, "读写器已断开"),
    scard.SCARD_E_NO_SMARTCARD: (NoCardError, "读写器中没有卡片"),
    scard.SCARD_W_REMOVED_CARD: (CardPulledError, "卡片在操作中被取出"),
    scard.SCARD_W_RESET_CARD: (CardResetError, "卡片被其他程序复位"),
    scard.SCARD_W_UNRESPONSIVE_CARD: (CardSilentError, "卡片没有应答，请检查卡片方向"),
    scard.SCARD_W_UNPOWERED_CARD: (CardSilentError, "卡片未上电"),
    scard.SCARD_E_NOT_TRANSACTED: (CardSilentError, "卡片没有应答"),
    scard.SCARD_F_COMM_ERROR: (CardSilentError, "与卡片通信失败"),
    scard.SCARD_E_TIMEOUT: (CardSilentError, "卡片没有应答"),
    scard.SCARD_E_SHARING_VIOLATION: (ReaderBusyError, "读写器被其他程序占用"),
    scard.SCARD_E_PROTO_MISMATCH: (ProtocolError, "卡片不支持 T=0"),
    scard.SCARD_W_UNSUPPORTED_CARD: (ProtocolError, "不支持此卡片"),
    scard.SCARD_E_NO_SERVICE: (ReaderServiceError, "读写器服务（pcscd）未运行"),
    scard.SCARD_E_SERVICE_STOPPED: (ReaderServiceError, "读写器服务（pcscd）已停止"),
    scard.SCARD_E_INVALID_HANDLE: (ReaderServiceError, "读写器服务（pcscd）已重新启动"),
}


@dataclass(slots=True)
class _Context:
    """What a lane's thread holds; a handle belongs to the context it was opened with."""

    context: Any = None
    card: Any = None

    def open(self) -> Any:
        """Return the context, establishing it first where there is none."""
        if self.context is None:
            code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
            _check(code)
            self.context = context
        return self.context

    def release(self) -> None:
        """Give everything back; the service closes an open card with its context."""
        if self.context is not None:
            scard.SCardReleaseContext(self.context)
        self.context = self.card = None


class _Lane:
    """A thread that makes PC/SC calls one after the other, each within a time limit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Any] | None = None

    def run(self, work: Callable[[_Context], T], seconds: float, late: TransportError) -> T:
        """Run work in the lane's thread; raise its error, or `late` when the time is up."""
        with self._lock:
            if self._jobs is None:
                self._jobs = SimpleQueue()
                threading.Thread(target=_drive, args=(self._jobs,), name=self._name, daemon=True).start()
            reply: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
            self._jobs.put((work, reply))
            try:
                value, error = reply.get(timeout=seconds)
            except Empty:
                self._abandon()
                raise late from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def run_if_open(self, work: Callable[[_Context], T], seconds: float, late: TransportError) -> None:
        """Run work unless nothing was run before."""
        if self._jobs is not None:
            self.run(work, seconds, late)

    def close(self) -> None:
        """Give reader and context back."""
        with self._lock:
            self._abandon()

    def _abandon(self) -> None:
        """Leave the thread to its call: when that returns, it gives everything back and ends."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _drive(jobs: SimpleQueue[Any]) -> None:
    held = _Context()
    while (job := jobs.get()) is not None:
        work, reply = job
        try:
            reply.put((work(held), None))
        except ReaderServiceError as exc:
            held.release()  # handles of a service that went away are worth nothing
            reply.put((None, exc))
        except Exception as exc:  # noqa: BLE001 - raised again in the caller's thread
            reply.put((None, exc))
    held.release()


class PcscTransport(Transport):
    """A reader by its name or a part of it; without a name the only one, or the only one with a card."""

    def __init__(
        self,
        reader: str = "",
        *,
        connect_seconds: float = CONNECT_SECONDS,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._wanted = reader
        self._connect_seconds = connect_seconds
        self._command_seconds = command_seconds
        self._card_lane = _Lane("pcsc-card")
        self._watch_lane = _Lane("pcsc-watch")  # heartbeats ask for the state while a card is at work

    def readers(self) -> dict[str, bool]:
        """Return the readers' names and whether a card is in each."""
        return self._watch(_readers)

    def connect(self) -> bytes:
        """Reset the card with T=0, begin a transaction and return the ATR."""
        self.disconnect()
        late = ReaderBusyError("读写器在限定时间内没有响应，可能被其他程序占用")

        def open_card(held: _Context) -> bytes:
            return _open_card(held, _choose(_readers(held), self._wanted))

        try:
            return self._card_lane.run(open_card, self._connect_seconds, late)
        except ReaderServiceError:  # the old service's context: once more with the new service
            return self._card_lane.run(open_card, self._connect_seconds, late)

    def disconnect(self) -> None:
        """End the transaction and power the card down; what the service answers no longer matters."""
        with contextlib.suppress(ReaderBusyError):  # given up: the lane closes the card when it can
            self._card_lane.run_if_open(_close_card, self._connect_seconds, ReaderBusyError("读写器没有响应"))

    def close(self) -> None:
        """Power the card down and give the reader back to others; the transport can be used again."""
        self.disconnect()
        self._card_lane.close()
        self._watch_lane.close()

    def card_present(self) -> bool:
        """Say whether a card is in the reader that would be used."""
        readers = self.readers()
        return readers[_choose(readers, self._wanted, card_needed=False)]

    def state(self) -> str:
        """Name the reader and say whether there is a card, or what is wrong."""
        try:
            readers = self.readers()
            name = _choose(readers, self._wanted, card_needed=False)
        except TransportError as exc:
            return str(exc)[:STATE_LENGTH]
        suffix = "：有卡" if readers[name] else "：无卡"
        return name[: STATE_LENGTH - len(suffix)] + suffix

    def _send(self, tpdu: bytes) -> Response:
        def send(held: _Context) -> Response:
            return _transmit(held, tpdu)

        try:
            return self._card_lane.run(
                send, self._command_seconds, CardSilentError("卡片在限定时间内没有应答")
            )
        except CardSilentError as exc:
            if self._pulled():
                raise CardPulledError("卡片在操作中被取出") from exc
            raise

    def _pulled(self) -> bool:
        """Say whether silence has a simple cause; the service needs a moment to see it."""
        try:
            return self.wait_for_card(REMOVAL_SECONDS, present=False)
        except NoReaderError as exc:
            raise ReaderGoneError("读写器已断开") from exc

    def _watch(self, work: Callable[[_Context], T]) -> T:
        late = ReaderServiceError("读写器服务（pcscd）没有响应")
        try:
            return self._watch_lane.run(work, self._connect_seconds, late)
        except ReaderServiceError:
            return self._watch_lane.run(work, self._connect_seconds, late)


# --- in the lane's thread -----------------------------------------------------------------------------------
def _readers(held: _Context) -> dict[str, bool]:
    code, names = scard.SCardListReaders(held.open(), [])
    _check(code)
    asked = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
    code, states = scard.SCardGetStatusChange(held.open(), 0, asked)
    _check(code)
    return {name: bool(state & scard.SCARD_STATE_PRESENT) for name, state, _ in states}


def _open_card(held: _Context, reader: str) -> bytes:
    code, card, _ = scard.SCardConnect(held.open(), reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0)
    _check(code)
    held.card = card
    try:
        _check(scard.SCardBeginTransaction(card))
        # Another program may have left the card in any state.
        code, _ = scard.SCardReconnect(
            card, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0, scard.SCARD_RESET_CARD
        )
        _check(code)
        code, _, _, _, atr = scard.SCardStatus(card)
        _check(code)
    except TransportError:
        _close_card(held)
        raise
    return bytes(atr)


def _close_card(held: _Context) -> None:
    if held.card is not None:
        scard.SCardEndTransaction(held.card, scard.SCARD_UNPOWER_CARD)
        scard.SCardDisconnect(held.card, scard.SCARD_UNPOWER_CARD)
        held.card = None


def _transmit(held: _Context, tpdu: bytes) -> Response:
    if held.card is None:
        raise NoCardError("卡片未连接")
    code, answer = scard.SCardTransmit(held.card, scard.SCARD_PCI_T0, list(tpdu))
    _check(code)
    if not answer:  # a driver's way to say that the card went away
        raise CardSilentError("卡片没有应答")
    if len(answer) < 2:
        raise ProtocolError("卡片的应答没有状态字", got=f"{len(answer)} 字节")
    return Response(bytes(answer[:-2]), (answer[-2] << 8) | answer[-1])


def _check(code: int) -> None:
    """Raise the transport's error for a PC/SC code."""
    if code == scard.SCARD_S_SUCCESS:
        return
    kind, message = ERRORS.get(code, (TransportError, "读写器服务报告错误"))
    raise kind(message, got=f"{code & 0xFFFFFFFF:08X} {scard.SCardGetErrorMessage(code)}")


def _choose(readers: Mapping[str, bool], wanted: str, *, card_needed: bool = True) -> str:
    """Return the reader that is meant; raise NoReaderError, AmbiguousReaderError or NoCardError."""
    fitting = [wanted] if wanted in readers else [name for name in readers if wanted in name]
    if not fitting:
        raise NoReaderError("没有找到读写器", expected=wanted or "至少一台", got="、".join(readers) or "无")
    filled = [name for name in fitting if readers[name]]
    if len(filled) > 1:
        raise AmbiguousReaderError("两台读写器中都有卡片，请只留一张", got="、".join(filled))
    if filled:
        return filled[0]
    if card_needed:
        raise NoCardError("读写器中没有卡片")
    return fitting[0]
