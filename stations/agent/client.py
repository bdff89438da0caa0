"""The agent's way to the portal: HTTPS with its own credential, patient with a portal that restarts."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from portal.core.errors import PortalError
from stations.agent.timing import Waited

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
RETRIES = 3
PATIENCE_SECONDS = 60.0  # a portal that restarts; the sweeper gives a silent station twice as long
PAUSE_SECONDS = 1.0
_PORTAL_TOOK = re.compile(r"portal;dur=([0-9]{1,7}(?:\.[0-9]{1,6})?)")


class PortalUnreachableError(PortalError):
    """The portal does not answer, or something else answers in its place."""

    code = "portal_unreachable"


class CredentialRefusedError(PortalError):
    """The portal does not know this station and credential."""

    code = "credential_refused"


class AnswerRefusedError(PortalError):
    """The portal refused a message; `got` is its code."""

    code = "portal_refused"


@dataclass(frozen=True, slots=True)
class StationAuth(AuthBase):
    """Adds the credential to each request; explicit, so that no .netrc takes its place."""

    code: str
    credential: str = field(repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign one request."""
        request.headers["Authorization"] = f"Station {self.code}:{self.credential}"
        return request


class PortalClient:
    """Messages of one station."""

    def __init__(
        self,
        address: str,
        code: str,
        credential: str,
        *,
        ca_file: str = "",
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """`ca_file`: the authority that signed the portal's certificate, where it is not a public one."""
        self._base = address.rstrip("/") + "/api/v1/station/"
        self._code = code
        self._patience = patience
        self.waited = Waited()
        self._session = requests.Session()
        if credential:
            self._session.auth = StationAuth(code, credential)
        if ca_file:
            self._session.verify = ca_file
        self._session.headers["Accept"] = "application/json"
        self._session.trust_env = not is_loopback(address)  # a proxy cannot reach this machine's own portal
        retry = Retry(
            total=RETRIES,
            backoff_factor=0.5,
            backoff_jitter=0.25,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods={"POST", "GET"},  # every message may arrive twice
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def heartbeat(self, report: dict[str, Any]) -> dict[str, Any]:
        """Say how the machine is; the answer says which sides of a card the station prints."""
        return _object(self._ask("POST", "heartbeat", report), self._base)

    def begin(self, issuance: int, reader: str, atr: bytes) -> dict[str, Any]:
        """Say that a card lies in the reader; the answer is the first script, or that another is wanted."""
        body = {"reader": reader[:100], "atr": atr.hex()}
        return self._insist("POST", f"issuances/{issuance}/begin", body)

    def send_step(self, issuance: int, step: int, body: dict[str, Any]) -> dict[str, Any]:
        """Bring back what a script brought; the answer is the next one, or what became of the card."""
        return self._insist("POST", f"issuances/{issuance}/steps/{step}", body)

    def send_print(self, issuance: int, body: dict[str, Any], *, patient: bool = True) -> None:
        """Tell a change of the print job; one that the next will replace may be missed."""
        path = f"issuances/{issuance}/print"
        if patient:
            self._patiently("POST", path, body)
        else:
            with contextlib.suppress(PortalUnreachableError):
                self._ask("POST", path, body)

    def print_order(self, issuance: int, claim: str) -> dict[str, Any]:
        """Ask what is to be printed again; the portal tells it to one claim only, as often as that asks."""
        return self._insist("POST", f"issuances/{issuance}/print-order", {"claim": claim})

    def faces(self, issuance: int, sides: Sequence[str]) -> list[bytes]:
        """Return these sides of the card as JPEG, in one answer; raise PortalUnreachableError for others."""
        answer = self._insist("GET", f"issuances/{issuance}/faces", None)
        try:
            found = {each["side"]: b64decode(each["jpeg"], validate=True) for each in answer["faces"]}
            return [found[side] for side in sides]
        except (KeyError, TypeError, ValueError) as exc:
            raise PortalUnreachableError("应答不是门户的", where=self._base) from exc

    def next_card(self, run: int, atr: bytes, stopped: tuple[str, str] | None) -> dict[str, Any]:
        """Say which blank lies in the reader, or what stopped the feeder; the answer is what to do next."""
        told = stopped and {"code": stopped[0][:64], "text": stopped[1][:200]}
        return self._insist("POST", f"feeder-runs/{run}/next", {"atr": atr.hex(), "stopped": told})

    def current_run(self) -> int | None:
        """Return the batch that this station is to go on with, None without one."""
        found = self._insist("GET", "feeder-run", None)["run"]
        return None if found is None else int(found)

    def redeem(self, one_time: str) -> str:
        """Exchange a one-time code for the station's credential."""
        answer = self._ask("POST", "enrol", {"code": self._code, "one_time": one_time}).json()
        return str(answer["credential"])

    def report_self_test(self, self_test_id: int, result: dict[str, Any]) -> None:
        """Report a self-test; one that was reported already is no error, the answer was lost then."""
        try:
            self._patiently("POST", f"self-tests/{self_test_id}", result)
        except AnswerRefusedError as exc:
            if exc.got != "self_test_reported":
                raise

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _insist(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Send a message until the portal answers it, and return the answer."""
        return _object(self._patiently(method, path, body), self._base)

    def _patiently(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        """Send the same message again while the portal is away, up to `PATIENCE_SECONDS`."""
        begun = time.monotonic()
        deadline = begun + self._patience
        while True:
            try:
                answer = self._ask(method, path, body)
            except PortalUnreachableError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                self._count(answer, time.monotonic() - begun)
                return answer

    def _count(self, answer: requests.Response, seconds: float) -> None:
        """Add a round trip to what was waited; the portal says in Server-Timing what it took itself."""
        self.waited.round_trips += 1
        self.waited.microseconds += round(seconds * 1_000_000)
        if told := _PORTAL_TOOK.search(answer.headers.get("Server-Timing", "")):
            self.waited.portal_microseconds += round(float(told[1]) * 1000)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                self._base + path,
                json=body,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,  # the credential goes to the address that was given, nowhere else
            )
        except requests.RequestException as exc:
            raise PortalUnreachableError("无法连接门户", where=self._base, got=type(exc).__name__) from exc
        if answer.status_code == requests.codes.unauthorized:
            raise CredentialRefusedError("门户不接受本制卡点的代码或凭证")
        if not answer.ok or answer.is_redirect:
            raise _refusal(answer)
        return answer


def _object(answer: requests.Response, base: str) -> dict[str, Any]:
    """Return the JSON object that the portal answered; anything else is not the portal's."""
    try:
        found: dict[str, Any] = dict(answer.json())
    except (ValueError, TypeError) as exc:
        raise PortalUnreachableError("应答不是门户的", where=base) from exc
    return found


def _refusal(answer: requests.Response) -> PortalError:
    """Tell a portal's refusal from an answer of something else, e.g. a proxy or a redirect."""
    if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            return AnswerRefusedError("门户拒绝了消息", got=str(answer.json()["code"]))
        except (ValueError, KeyError, TypeError):
            pass
    return PortalUnreachableError("应答不是门户的", got=f"HTTP {answer.status_code}")


def is_loopback(address: str) -> bool:
    """Say whether an address lies on this machine, where plain HTTP leaves nothing to overhear."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
