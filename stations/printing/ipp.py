"""A card printer through IPP (RFC 8011, PWG 5100.3 for media-col): a CUPS queue or the printer itself."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from stations.printing.codec import Attribute, Attributes, IppFormatError, Message, Tag, Value, one, parse
from stations.printing.documents import Document, Sheet, document
from stations.printing.media import medium_of
from stations.printing.printer import (
    JobState,
    JobStatus,
    PrinterError,
    PrinterRefusedError,
    PrinterSilentError,
    PrinterStatus,
    PrinterUnreachableError,
    Supply,
)
from stations.printing.sides import sides_of, turns_over
from stations.printing.words import bare, loud

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
MOST_ANSWER = 4 << 20
PRINT_JOB, CREATE_JOB, SEND_DOCUMENT = 0x0002, 0x0005, 0x0006
CANCEL_JOB, GET_JOB, GET_PRINTER = 0x0008, 0x0009, 0x000B
NOT_FOUND, NOT_POSSIBLE = 0x0406, 0x0404
# Internal error, device error, job canceled (RFC 8011 §B.1.5): said of a document that was begun, too.
_IN_THE_MIDDLE = frozenset({0x0500, 0x0504, 0x0508})
USER = "card-portal"
HIGH_QUALITY = 5
_STATES = {3: "idle", 4: "processing", 5: "stopped"}
_JOB_STATES = {
    3: JobState.SUBMITTED,
    4: JobState.SUBMITTED,
    5: JobState.PROCESSING,
    6: JobState.STOPPED,
    7: JobState.CANCELED,
    8: JobState.ABORTED,
    9: JobState.COMPLETED,
}
_HALTING = ("-needed", "-empty", "-jam", "-open", "-missing", "-full")
_ASKED = (
    "printer-name", "printer-state", "printer-state-reasons", "printer-state-message",
    "printer-is-accepting-jobs", "document-format-supported", "operations-supported", "media-size-supported",
    "media-ready", "marker-names", "marker-levels", "printer-supply", "printer-supply-description",
    "print-scaling-supported", "orientation-requested-supported", "print-quality-supported",
    "sides-supported", "pwg-raster-document-resolution-supported", "pwg-raster-document-type-supported",
    "pwg-raster-document-sheet-back",
)  # fmt: skip


class IppPrinter:
    """Messages to one printer; every one has a time limit and nothing is kept but the address."""

    def __init__(
        self, uri: str, *, ca_file: str = "", read_seconds: float = READ_SECONDS, turn_back: bool = False
    ) -> None:
        """`turn_back`: this printer's backs come out head down, as its test card shows."""
        self.uri = uri
        self.name = urlsplit(uri).path.rsplit("/", 1)[-1] or urlsplit(uri).hostname or uri
        self._address = http_address(uri)
        self._verify: str | bool = ca_file or True
        self._read_seconds = read_seconds
        self._turn_back = turn_back
        self._numbers = itertools.count(1)

    def status(self) -> PrinterStatus:
        """Ask the printer how it is; one that does not answer is `unreachable`."""
        try:
            found = self.attributes()
        except PrinterError as exc:
            return PrinterStatus(self.name, "unreachable", (exc.code.replace("_", "-"),))
        state = _STATES.get(_number(found, "printer-state"), "stopped")
        reasons = loud(_words(found, "printer-state-reasons"))
        name = next(iter(_words(found, "printer-name")), self.name)
        media = tuple(_words(found, "media-ready"))
        return PrinterStatus(name, state, reasons, _supplies(found), media, turns_over(found))

    def attributes(self) -> Attributes:
        """Return the printer's attributes by name."""
        answer = self._ask(GET_PRINTER, {"requested-attributes": one(Tag.KEYWORD, *_ASKED)})
        return answer.group(Tag.PRINTER)

    def submit(self, faces: Sequence[bytes], title: str) -> int:
        """Print one card as one job; raise PrinterSilentError only when the document may have arrived."""
        try:
            found = self.attributes()
        except PrinterSilentError as exc:
            raise PrinterUnreachableError(exc.message, where=self.uri) from exc
        sheet = Sheet.of(found, medium_of(found), sides_of(found, len(faces)), turn_back=self._turn_back)
        content = document(faces, frozenset(_words(found, "document-format-supported")), sheet)
        job = _job_attributes(found, sheet, content)
        described = {"job-name": one(Tag.NAME, title)}
        mime = {"document-format": one(Tag.MIME, content.mime)}
        operations = set(_numbers(found, "operations-supported"))
        if not {CREATE_JOB, SEND_DOCUMENT} <= operations:
            answer = self._ask(PRINT_JOB, {**described, **mime}, job, content.content)
            return _job_number(answer)
        try:
            number = _job_number(self._ask(CREATE_JOB, described, job))
        except PrinterSilentError as exc:  # no document was sent: nothing can be printed
            raise PrinterUnreachableError(exc.message, where=self.uri) from exc
        self._send_document(number, mime, content.content)
        return number

    def _send_document(self, number: int, mime: Attributes, content: bytes) -> None:
        """Send the image; when only the answer is missing the job's own state will tell."""
        last = {"last-document": one(Tag.BOOLEAN, True)}
        try:
            self._ask(SEND_DOCUMENT, {**_job_id(number), **mime, **last}, document_content=content)
        except PrinterSilentError:
            return
        except PrinterError:
            self._forget(number)
            raise

    def _forget(self, number: int) -> None:
        """Cancel a job that has no document; a printer that is away forgets it by itself."""
        try:
            self.cancel(number)
        except PrinterError:
            return

    def job(self, number: int) -> JobStatus:
        """Return a job's state; one that waits for a person at the printer is stopped."""
        wanted = ("job-state", "job-state-reasons", "job-printer-state-reasons")
        asked = {**_job_id(number), "requested-attributes": one(Tag.KEYWORD, *wanted)}
        found = self._ask(GET_JOB, asked).group(Tag.JOB)
        state = _JOB_STATES.get(_number(found, "job-state"), JobState.LOST)
        reasons = loud(_words(found, "job-state-reasons"))
        if state in (JobState.SUBMITTED, JobState.PROCESSING, JobState.STOPPED):
            status = self.status()
            reasons = loud((*reasons, *status.reasons))
            if any(_halts(reason) for reason in status.reasons):
                state = JobState.STOPPED
        return JobStatus(state, reasons[:20])

    def cancel(self, number: int) -> None:
        """Cancel a job; one that has ended is left alone."""
        try:
            self._ask(CANCEL_JOB, _job_id(number))
        except PrinterRefusedError as exc:
            if exc.got not in (f"{NOT_POSSIBLE:04X}", f"{NOT_FOUND:04X}"):
                raise

    def _ask(
        self,
        operation: int,
        attributes: Attributes,
        job: Attributes | None = None,
        document_content: bytes = b"",
    ) -> Message:
        head = {
            "attributes-charset": one(Tag.CHARSET, "utf-8"),
            "attributes-natural-language": one(Tag.LANGUAGE, "zh-cn"),
            "printer-uri": one(Tag.URI, self.uri),
        }
        user = {"requesting-user-name": one(Tag.NAME, USER)}
        ordered = _ordered({**head, **user, **attributes})
        groups: list[tuple[int, Attributes]] = [(Tag.OPERATION, ordered)]
        if job:
            groups.append((Tag.JOB, job))
        asked = Message(operation, next(self._numbers), groups, document_content)
        answer = self._post(asked.to_bytes(), sent=bool(document_content))
        if answer.code >= 0x0100:  # RFC 8011 §B.1: below are the kinds of success
            text = next(iter(_words(answer.group(Tag.OPERATION), "status-message")), "")
            if document_content and answer.code in _IN_THE_MIDDLE:
                raise PrinterSilentError("打印机中断了任务", where=text[:80], got=f"{answer.code:04X}")
            raise PrinterRefusedError("打印机拒绝了任务", where=text[:80], got=f"{answer.code:04X}")
        return answer

    def _post(self, body: bytes, *, sent: bool) -> Message:
        """Return the answer; `sent`: a document went along, so that not every refusal is one."""
        options: dict[str, Any] = {
            "headers": {"Content-Type": "application/ipp", "Accept-Encoding": "identity"},
            "timeout": (CONNECT_SECONDS, self._read_seconds),
            "verify": self._verify,
            "allow_redirects": False,
        }
        try:
            with requests.Session() as session:  # a printer closes idle connections: none is kept
                session.trust_env = False
                answer = session.post(self._address, data=body, **options)
        except (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError) as exc:
            # TLS may also break behind a document that arrived; a wrong certificate shows long before.
            broken = sent and isinstance(exc, requests.exceptions.SSLError)
            kind = PrinterSilentError if broken else PrinterUnreachableError
            raise kind("无法连接打印机", where=self.uri, got=type(exc).__name__) from exc
        except requests.exceptions.ConnectionError as exc:
            raise _unconnected(exc, self.uri) from exc
        except (requests.RequestException, ssl.SSLError, OSError) as exc:
            raise PrinterSilentError("打印机没有应答", where=self.uri, got=type(exc).__name__) from exc
        if sent and answer.status_code >= requests.codes.server_error:
            raise PrinterSilentError("打印机中断了任务", where=self.uri, got=f"HTTP {answer.status_code}")
        if answer.status_code != requests.codes.ok or len(answer.content) > MOST_ANSWER:
            raise PrinterRefusedError("打印机拒绝了连接", where=self.uri, got=f"HTTP {answer.status_code}")
        try:
            return parse(answer.content)
        except IppFormatError as exc:
            raise PrinterSilentError(exc.message, where=self.uri, got=exc.got) from exc


def http_address(uri: str) -> str:
    """Return where an ipp or ipps address is reached (RFC 3510, RFC 7472): port 631, always by HTTP."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    scheme = "https" if parts.scheme == "ipps" else "http"
    return urlunsplit((scheme, f"{host}:{parts.port or 631}", parts.path or "/", "", ""))


def _unconnected(exc: requests.exceptions.ConnectionError, uri: str) -> PrinterError:
    """Tell a connection that never was from one that broke: only the first proves that nothing arrived."""
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    if type(reason).__name__ in {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"}:
        return PrinterUnreachableError("无法连接打印机", where=uri)
    return PrinterSilentError("打印机中断了连接", where=uri)


def _halts(reason: str) -> bool:
    """Say whether a person must come; a mere report of what was is no obstacle."""
    return bare(reason).endswith(_HALTING) and not reason.endswith("-report")


def _ordered(attributes: Attributes) -> Attributes:
    """Put the target first, as RFC 8011 §4.1.4 to §4.1.5 wants it: charset, language, printer, job."""
    first = ("attributes-charset", "attributes-natural-language", "printer-uri", "job-id")
    rest = [name for name in attributes if name not in first]
    return {name: attributes[name] for name in (*first, *rest) if name in attributes}


def _job_attributes(found: Attributes, sheet: Sheet, content: Document) -> Attributes:
    """Return how the job is to be printed: one card of its exact size, nothing scaled (R-25)."""
    asked: dict[str, Attribute] = {
        "copies": one(Tag.INTEGER, 1),
        "sides": one(Tag.KEYWORD, sheet.sides),
        "media-col": one(Tag.COLLECTION, sheet.medium.collection()),
    }
    if "none" in _words(found, "print-scaling-supported"):
        asked["print-scaling"] = one(Tag.KEYWORD, "none")
    if HIGH_QUALITY in _numbers(found, "print-quality-supported"):
        asked["print-quality"] = one(Tag.ENUM, HIGH_QUALITY)
    rotation = sheet.medium.rotation
    if not content.is_laid and rotation in _numbers(found, "orientation-requested-supported"):
        asked["orientation-requested"] = one(Tag.ENUM, rotation)
    return asked


def _job_id(number: int) -> Attributes:
    return {"job-id": one(Tag.INTEGER, number)}


def _job_number(answer: Message) -> int:
    number = _number(answer.group(Tag.JOB), "job-id")
    if number < 1:
        raise PrinterSilentError("打印机没有给出任务号")
    return number


def _supplies(found: Attributes) -> tuple[Supply, ...]:
    """Return the supplies by CUPS's attributes, or by those of an IPP Everywhere printer (PWG 5100.13)."""
    names = _words(found, "marker-names")
    levels = _numbers(found, "marker-levels")
    if not names:
        names = _words(found, "printer-supply-description")
        levels = [_level(raw) for raw in _values(found, "printer-supply") if isinstance(raw, bytes)]
    return tuple(
        Supply(name[:60], max(-3, min(level, 100))) for name, level in zip(names, levels, strict=False)
    )[:20]


def _level(raw: bytes) -> int:
    """Return the level in percent from `level=25;maxcapacity=100;…`; -2 when it is not told."""
    told: Mapping[str, str] = {
        name: value
        for name, equals, value in (part.partition("=") for part in raw.decode("latin-1").split(";"))
        if equals
    }
    try:
        level, most = int(told["level"]), int(told.get("maxcapacity", "100"))
    except (KeyError, ValueError):
        return -2
    return level * 100 // most if level >= 0 and most > 0 else max(level, -3)


def _values(found: Attributes, name: str) -> tuple[Value, ...]:
    attribute = found.get(name)
    return attribute.values if attribute else ()


def _words(found: Attributes, name: str) -> list[str]:
    return [value for value in _values(found, name) if isinstance(value, str)]


def _numbers(found: Attributes, name: str) -> list[int]:
    return [value for value in _values(found, name) if isinstance(value, int)]


def _number(found: Attributes, name: str) -> int:
    return next(iter(_numbers(found, name)), 0)
