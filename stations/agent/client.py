"""The agent's way to the portal: HTTPS with its own credential, patient with a portal that restarts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from portal.core.errors import PortalError

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
RETRIES = 3


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

    def __init__(self, address: str, code: str, credential: str) -> None:
        self._base = address.rstrip("/") + "/api/v1/station/"
        self._session = requests.Session()
        self._session.auth = StationAuth(code, credential)
        self._session.headers["Accept"] = "application/json"
        self._session.trust_env = not is_loopback(address)  # a proxy cannot reach this machine's own portal
        retry = Retry(
            total=RETRIES,
            backoff_factor=0.5,
            backoff_jitter=0.25,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods={"POST"},  # every message may arrive twice
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def heartbeat(self, *, reader_state: str, printer_state: str, agent_version: str) -> None:
        """Say how the machine is."""
        self._post(
            "heartbeat",
            {
                "reader_state": reader_state[:60],
                "printer_state": printer_state[:60],
                "agent_version": agent_version,
            },
        )

    def report_self_test(self, self_test_id: int, result: dict[str, Any]) -> None:
        """Report a self-test; one that was reported already is no error, the answer was lost then."""
        try:
            self._post(f"self-tests/{self_test_id}", result)
        except AnswerRefusedError as exc:
            if exc.got != "self_test_reported":
                raise

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _post(self, path: str, body: dict[str, Any]) -> None:
        try:
            answer = self._session.post(
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
