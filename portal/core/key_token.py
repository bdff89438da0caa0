"""A wrapping key that never leaves its PKCS#11 token; the only module that knows python-pkcs11.

The key is AES-256 and wraps by AES-GCM (NIST SP 800-38D) with the entry's clear fields as associated data.
Tokens in reach, SoftHSM2 among them, have no SM4 in PKCS#11; what is wrapped are SM4 and SM2 keys.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pkcs11
from pkcs11 import (
    Attribute,
    GCMParams,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    PKCS11Error,
)

from portal.core.crypto import NONCE_SIZE, TAG_SIZE, TamperedError, hmac_sm3, sm3
from portal.core.key_refusals import (
    KeyExistsError,
    KeyExtractableError,
    TokenFailedError,
    TokenKeyMissingError,
    TokenMissingError,
    TokenPinError,
)
from portal.core.key_uri import TokenAddress

KEY_BITS = 256
LONGEST_WAIT = 10.0
_NEW_KEY = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.PRIVATE: True,
    Attribute.MODIFIABLE: False,
}
_PROBE = b"portal wrapping key probe"
# The nonce of the check value: random ones never meet it, and only three bytes of a digest are shown.
_CHECK_NONCE = b"\xff" * NONCE_SIZE
# Of a PIN refused only a digest is remembered, and one that cannot be searched for.
_SALT = os.urandom(32)
_REFUSED_PIN = (
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.PinExpired,
)

T = TypeVar("T")


class _Modules:
    """The PKCS#11 modules of this process; a child of fork() starts them anew (PKCS#11 v2.40, 5.2)."""

    def __init__(self) -> None:
        self._inherited: set[str] = set()
        self._started: set[str] = set()
        self.refused_pins: set[tuple[str, str, bytes]] = set()
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._inherited |= self._started
        self._lock = threading.Lock()

    def load(self, path: str) -> Any:
        """Return the module's library, initialised in this very process."""
        with self._lock:
            try:
                library = pkcs11.lib(path)
                if path in self._inherited:
                    self._restart(library)
            except PKCS11Error as exc:
                raise TokenMissingError("PKCS#11 模块无法加载", where=path) from exc
            self._inherited.discard(path)
            self._started.add(path)
            return library

    def _restart(self, library: Any) -> None:
        """Start a module that may have been copied by fork() without noticing."""
        # A module that did notice refuses to finish what it never began, and is then simply begun.
        with suppress(PKCS11Error):
            library.finalize()
        library.initialize()


_modules = _Modules()


class TokenWrapper:
    """Wrap under a key in a token; safe for threads, across fork(), and when the session is lost.

    Raises TokenMissingError, TokenPinError, TokenKeyMissingError, KeyExtractableError at construction,
    TokenFailedError later when the token does not come back.
    """

    def __init__(self, address: TokenAddress) -> None:
        self._address = address
        self._renew()
        self._check_value = self._run(_check_value)

    @property
    def check_value(self) -> str:
        """Return six hex digits that tell this wrapping key from another."""
        return self._check_value

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Return nonce (12) || ciphertext || tag (16), tied to `context`."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._run(lambda key: _encrypt(key, nonce, secret, context))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the secret; raise TamperedError unless wrapped by this key for this context."""
        if len(wrapped) < NONCE_SIZE + TAG_SIZE:
            raise TamperedError("密文长度不足", expected="不少于 28 字节", got=f"{len(wrapped)} 字节")
        nonce, sealed = wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:]
        return self._run(lambda key: _decrypt(key, nonce, sealed, context))

    def _renew(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._session: Any = None
        self._key: Any = None

    def _run(self, work: Callable[[Any], T]) -> T:
        if self._process != os.getpid():
            self._renew()
        with self._lock:
            with suppress(PKCS11Error):
                return work(self._opened())
            return self._once_more(work)

    def _once_more(self, work: Callable[[Any], T]) -> T:
        """Try again, in a new session where the old one is lost; tell wrong ciphertext from a lost token."""
        if self._key is None or not _answers(self._key):
            self._close()
        try:
            return work(self._opened())
        except PKCS11Error as exc:
            if self._key is not None and _answers(self._key):
                raise TamperedError("密文校验失败：内容、位置或密钥不符") from exc
            self._close()
            raise TokenFailedError("令牌没有正常应答", where=self._address.token, got=_name(exc)) from exc

    def _opened(self) -> Any:
        if self._key is None:
            with _one_at_a_time(self._address.module):
                self._session, key = _signed_in(self._address)
            try:
                _require_safe(key, self._address)
            except KeyExtractableError:
                self._close()
                raise
            self._key = key
        return self._key

    def _close(self) -> None:
        with suppress(PKCS11Error):
            if self._session is not None:
                self._session.close()
        self._session = self._key = None


def create_token_key(address: TokenAddress) -> str:
    """Draw a wrapping key inside the token that can never be read out; return its check value."""
    try:
        with _one_at_a_time(address.module), _session(address) as session:
            if _find(session, address) is not None:
                raise KeyExistsError("令牌中已有同名的主控密钥", where=address.label)
            session.generate_key(
                KeyType.AES,
                KEY_BITS,
                label=address.label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template=_NEW_KEY,
            )
    except PKCS11Error as exc:
        raise TokenFailedError("令牌无法生成主控密钥", where=address.token, got=_name(exc)) from exc
    return TokenWrapper(address).check_value


@contextmanager
def _session(address: TokenAddress) -> Iterator[Any]:
    session = _login(_token(address), address, rw=True)
    try:
        yield session
    finally:
        session.close()


@contextmanager
def _one_at_a_time(module: str) -> Iterator[None]:
    """Let the processes of this machine sign in one after the other.

    SoftHSM2 writes the token's file at each sign-in; who reads it at that moment finds no token. The lock is
    on the module's own file, which anybody may hold: so nobody waits for it longer than LONGEST_WAIT seconds.
    """
    try:
        descriptor = os.open(module, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise TokenMissingError("PKCS#11 模块无法加载", where=module) from exc
    try:
        end = time.monotonic() + LONGEST_WAIT
        while not _locked(descriptor) and time.monotonic() < end:
            time.sleep(0.005)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _token(address: TokenAddress) -> Any:
    wanted: dict[str, Any] = {"token_label": address.token}
    if address.serial:
        wanted["token_serial"] = address.serial.encode()
    try:
        return _modules.load(address.module).get_token(**wanted)
    except pkcs11.NoSuchToken as exc:
        raise TokenMissingError("没有这个令牌", where=address.token) from exc
    except pkcs11.MultipleTokensReturned as exc:
        raise TokenMissingError("有多个同名令牌，请注明 serial", where=address.token) from exc


def _signed_in(address: TokenAddress) -> tuple[Any, Any]:
    """Return a session and the key in it; sign in unless another session of this process has already."""
    token = _token(address)
    session = token.open()
    key = _find(session, address)
    if key is None:
        # A failed sign-in would leave its session open: so the first one is closed and a second one made.
        session.close()
        session = _login(token, address, rw=False)
        key = _find(session, address)
    if key is None:
        session.close()
        raise TokenKeyMissingError("令牌中没有这个主控密钥", where=address.label)
    return session, key


def _login(token: Any, address: TokenAddress, *, rw: bool) -> Any:
    """Sign in; a PIN refused once is not tried again by this process, else the token would lock itself."""
    tried = (address.module, address.token, hmac_sm3(_SALT, address.pin.read().encode()))
    if tried in _modules.refused_pins:
        raise TokenPinError("令牌口令（PIN）已被拒绝，更正后请重启进程", where=address.token)
    try:
        return token.open(user_pin=address.pin.read(), rw=rw)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=rw)
    except _REFUSED_PIN as exc:
        _modules.refused_pins.add(tried)
        raise TokenPinError("令牌拒绝了口令（PIN）", where=address.token, got=_name(exc)) from None


def _find(session: Any, address: TokenAddress) -> Any:
    """Return the wrapping key of this label, None where there is none to be seen."""
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: address.label}
    found = list(session.get_objects(wanted))
    if len(found) > 1:
        raise TokenKeyMissingError("令牌中有多个同名密钥", where=address.label)
    return found[0] if found else None


def _require_safe(key: Any, address: TokenAddress) -> None:
    """Refuse a key that its token would hand out; one restored into the token from a backup is welcome."""
    wanted = {
        "CKA_EXTRACTABLE": (Attribute.EXTRACTABLE, False),
        "CKA_SENSITIVE": (Attribute.SENSITIVE, True),
        "CKA_PRIVATE": (Attribute.PRIVATE, True),
        "CKA_TOKEN": (Attribute.TOKEN, True),
        "CKA_KEY_TYPE": (Attribute.KEY_TYPE, KeyType.AES),
        "CKA_VALUE_LEN": (Attribute.VALUE_LEN, KEY_BITS // 8),
    }
    wrong = [name for name, (attribute, value) in wanted.items() if key[attribute] != value]
    if wrong:
        raise KeyExtractableError(
            "令牌中的主控密钥不合要求：须为不可导出、须口令、AES-256",
            where=address.label,
            got="、".join(wrong),
        )


def _answers(key: Any) -> bool:
    """Say whether the key still works: then what failed was the ciphertext, not the token."""
    nonce = os.urandom(NONCE_SIZE)
    try:
        return _decrypt(key, nonce, _encrypt(key, nonce, _PROBE, b""), b"") == _PROBE
    except PKCS11Error:
        return False


def _check_value(key: Any) -> str:
    return sm3(_encrypt(key, _CHECK_NONCE, bytes(16), _PROBE))[:3].hex().upper()


def _encrypt(key: Any, nonce: bytes, plaintext: bytes, context: bytes) -> bytes:
    parameters = GCMParams(nonce, context, TAG_SIZE * 8)
    return bytes(key.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))


def _decrypt(key: Any, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes:
    parameters = GCMParams(nonce, context, TAG_SIZE * 8)
    return bytes(key.decrypt(ciphertext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))


def _name(exc: PKCS11Error) -> str:
    return type(exc).__name__
