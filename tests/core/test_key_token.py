"""A wrapping key in a real SoftHSM2: it never leaves, and each thing that goes wrong has its own answer."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pkcs11 import Attribute, KeyType, MechanismFlag

from portal.core.crypto import TamperedError
from portal.core.errors import PortalError
from portal.core.key_refusals import (
    ForeignKekError,
    KeyExistsError,
    KeyExtractableError,
    KeyPermissionError,
    TokenFailedError,
    TokenKeyMissingError,
    TokenMissingError,
    TokenPinError,
)
from portal.core.key_token import TokenWrapper, create_token_key
from portal.core.key_uri import PinSource, TokenAddress, parse_address
from portal.core.key_wrapping import create_kek, load_wrapper
from portal.core.keystore import KeyPurpose, KeyStore
from tests.core.key_tokens import PIN, TOKENS, soft_hsm

SECRET = bytes.fromhex("31a7c05d92e4480fb6d1937ae50c2f84")
CONTEXT = b'{"id":"1","purpose":"package"}'
WRONG_PIN = "9999-not-the-pin"


@pytest.fixture
def wrapper() -> TokenWrapper:
    return soft_hsm().wrapper("suite")


def address(label: str = "suite", **changed: Any) -> TokenAddress:
    return replace(parse_address(soft_hsm().uri(label)), **changed)


def in_child(work: Callable[[], Any]) -> Any:
    """Do the work in a forked process, where no session is open; return its result or raise its refusal."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result: Any = work()
        except PortalError as exc:
            result = exc
        os.write(sending, pickle.dumps((type(result), str(result))))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as answers:
        kind, text = pickle.loads(answers.read())
    os.waitpid(child, 0)
    if issubclass(kind, PortalError):
        raise kind(text)
    return text


def loose_key(label: str, *, bits: int = 256, **attributes: bool) -> None:
    """Put a key into the token that a careless administrator made."""
    template = {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True} | {
        getattr(Attribute, name): value for name, value in attributes.items()
    }
    token = pkcs11.lib(soft_hsm().module).get_token(token_label=TOKENS[0])
    try:
        session = token.open(user_pin=PIN, rw=True)
    except pkcs11.UserAlreadyLoggedIn:
        session = token.open(rw=True)
    session.generate_key(
        KeyType.AES,
        bits,
        label=label,
        store=True,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template=template,
    )


class TestTheKeyNeverLeaves:
    def test_its_value_cannot_be_read(self, wrapper: TokenWrapper) -> None:
        """Issue 3: a non-extractable wrapping key, asked of the token itself."""
        wrapper.wrap(SECRET, CONTEXT)
        with pytest.raises(pkcs11.AttributeSensitive):
            wrapper._key[Attribute.VALUE]

    def test_it_can_be_neither_loosened_nor_copied_nor_wrapped_out(self, wrapper: TokenWrapper) -> None:
        key, session = wrapper._key, wrapper._session
        for attribute, value in ((Attribute.EXTRACTABLE, True), (Attribute.SENSITIVE, False)):
            with pytest.raises(pkcs11.PKCS11Error):
                key[attribute] = value
            with pytest.raises(pkcs11.PKCS11Error):
                key.copy({attribute: value, Attribute.TOKEN: False})
        other = session.generate_key(KeyType.AES, 256)
        with pytest.raises(pkcs11.KeyUnextractable):
            other.wrap_key(key)

    def test_it_was_drawn_in_the_token(self, wrapper: TokenWrapper) -> None:
        for attribute in (Attribute.LOCAL, Attribute.NEVER_EXTRACTABLE, Attribute.ALWAYS_SENSITIVE):
            assert wrapper._key[attribute] is True

    def test_a_second_key_of_the_same_name_is_not_made(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        with pytest.raises(KeyExistsError):
            create_token_key(address())
        assert soft_hsm().wrapper("suite").unwrap(blob, CONTEXT) == SECRET


class TestWrapping:
    def test_the_same_key_unwraps_in_every_wrapper(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        again = TokenWrapper(address())
        assert again.unwrap(blob, CONTEXT) == SECRET
        assert again.check_value == wrapper.check_value
        assert len(blob) == 12 + 16 + 16

    def test_every_changed_byte_is_noticed(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        for place in range(len(blob)):
            changed = bytearray(blob)
            changed[place] ^= 1
            with pytest.raises(TamperedError):
                wrapper.unwrap(bytes(changed), CONTEXT)
        for length in range(len(blob)):
            with pytest.raises(TamperedError):
                wrapper.unwrap(blob[:length], CONTEXT)
        assert wrapper.unwrap(blob, CONTEXT) == SECRET

    def test_a_secret_is_bound_to_its_entry(self, wrapper: TokenWrapper) -> None:
        """The entry's clear fields are associated data: a file under another name or purpose is refused."""
        with pytest.raises(TamperedError):
            wrapper.unwrap(wrapper.wrap(SECRET, CONTEXT), CONTEXT.replace(b"package", b"batch00"))

    def test_another_key_and_another_token_do_not_open_it(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        others = soft_hsm().wrapper("other"), soft_hsm().wrapper("suite", TOKENS[1])
        for other in others:
            with pytest.raises(TamperedError):
                other.unwrap(blob, CONTEXT)
        assert len({wrapper.check_value, *(other.check_value for other in others)}) == 3

    @given(secret=st.binary(max_size=200), context=st.binary(max_size=600))
    @settings(max_examples=40, deadline=None)
    def test_any_secret_and_any_context_come_back(self, secret: bytes, context: bytes) -> None:
        wrapper = soft_hsm().wrapper("suite")
        assert wrapper.unwrap(wrapper.wrap(secret, context), context) == secret


class TestLostSessions:
    def test_a_closed_session_is_opened_again(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        wrapper._session.close()
        assert wrapper.unwrap(blob, CONTEXT) == SECRET
        wrapper._session.close()
        assert wrapper.unwrap(wrapper.wrap(SECRET, CONTEXT), CONTEXT) == SECRET

    def test_a_restarted_module_is_signed_in_again(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        pkcs11.lib(soft_hsm().module).reinitialize()
        assert wrapper.unwrap(blob, CONTEXT) == SECRET

    def test_one_wrapper_that_signs_out_does_not_stop_another(self, wrapper: TokenWrapper) -> None:
        """PKCS#11 signs a whole process in and out."""
        blob, other = wrapper.wrap(SECRET, CONTEXT), soft_hsm().wrapper("other")
        other.wrap(SECRET, CONTEXT)
        other._close()
        assert wrapper.unwrap(blob, CONTEXT) == SECRET
        assert other.unwrap(other.wrap(SECRET, b""), b"") == SECRET

    def test_a_token_that_went_away_is_told_and_serves_again_when_it_is_back(
        self, wrapper: TokenWrapper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)

        def gone(*arguments: Any) -> bytes:
            raise pkcs11.DeviceRemoved

        with monkeypatch.context() as patched:
            patched.setattr("portal.core.key_token._decrypt", gone)
            with pytest.raises(TokenFailedError) as refusal:
                wrapper.unwrap(blob, CONTEXT)
        assert (refusal.value.code, refusal.value.got) == ("token_failed", "DeviceRemoved")
        assert wrapper.unwrap(blob, CONTEXT) == SECRET

    def test_threads_share_a_wrapper(self, wrapper: TokenWrapper) -> None:
        blob, found = wrapper.wrap(SECRET, CONTEXT), []

        def work() -> None:
            found.extend(wrapper.unwrap(blob, CONTEXT) for _ in range(50))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        wrapper._session.close()
        for thread in threads:
            thread.join()
        assert found == [SECRET] * 300


class TestForks:
    def test_a_child_signs_in_for_itself_and_the_parent_goes_on(self, wrapper: TokenWrapper) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        assert in_child(lambda: wrapper.unwrap(blob, CONTEXT).hex()) == SECRET.hex()
        assert wrapper.unwrap(blob, CONTEXT) == SECRET

    def test_a_child_of_a_process_that_held_the_lock_does_not_wait_for_it(
        self, wrapper: TokenWrapper
    ) -> None:
        blob = wrapper.wrap(SECRET, CONTEXT)
        with wrapper._lock:
            assert in_child(lambda: wrapper.unwrap(blob, CONTEXT).hex()) == SECRET.hex()

    def test_many_processes_that_start_at_once_all_get_in(self, wrapper: TokenWrapper) -> None:
        """SoftHSM2 shows no token to who looks while another signs in; workers start together."""
        blob = wrapper.wrap(SECRET, CONTEXT)
        children = []
        for _ in range(8):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = 0 if wrapper.unwrap(blob, CONTEXT) == SECRET else 2
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8


class TestRefusals:
    @pytest.mark.parametrize("module", ["/nowhere/module.so", "/etc/hostname", "/tmp"])
    def test_a_module_that_is_none(self, module: str) -> None:
        with pytest.raises(TokenMissingError) as refusal:
            TokenWrapper(address(module=module))
        assert refusal.value.where == module

    @pytest.mark.parametrize("changed", [{"token": "nobody"}, {"serial": "0" * 16}])
    def test_a_token_that_is_not_there(self, changed: dict[str, str]) -> None:
        with pytest.raises(TokenMissingError) as refusal:
            TokenWrapper(address(**changed))
        assert refusal.value.code == "token_missing"

    def test_a_serial_picks_the_token(self) -> None:
        kept = soft_hsm().wrapper("suite").check_value
        serial = pkcs11.lib(soft_hsm().module).get_token(token_label=TOKENS[0]).serial.decode()
        assert TokenWrapper(address(serial=serial)).check_value == kept

    def test_a_key_that_is_not_there(self) -> None:
        with pytest.raises(TokenKeyMissingError) as refusal:
            TokenWrapper(address("never-made"))
        assert refusal.value.where == "never-made"

    @pytest.mark.parametrize(
        ("attributes", "bits", "named"),
        [
            ({"EXTRACTABLE": True}, 256, "CKA_EXTRACTABLE"),
            ({"SENSITIVE": False}, 256, "CKA_SENSITIVE"),
            ({"PRIVATE": False}, 256, "CKA_PRIVATE"),
            ({}, 128, "CKA_VALUE_LEN"),
        ],
    )
    def test_a_key_that_protects_nothing(self, attributes: dict[str, bool], bits: int, named: str) -> None:
        """Issue 3: an extractable key is refused, not used."""
        label = f"loose-{named}"
        loose_key(label, bits=bits, **attributes)
        with pytest.raises(KeyExtractableError) as refusal:
            TokenWrapper(address(label))
        assert refusal.value.got == named

    def test_two_keys_of_one_name(self) -> None:
        loose_key("twice")
        loose_key("twice")
        with pytest.raises(TokenKeyMissingError):
            TokenWrapper(address("twice"))

    def test_a_wrong_pin_is_tried_once_and_never_shown(
        self, wrapper: TokenWrapper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token locks itself after a few wrong PINs: a server that keeps asking would lock it."""
        monkeypatch.setenv("PORTAL_TEST_PIN", WRONG_PIN)
        wrong = address(pin=PinSource(variable="PORTAL_TEST_PIN"))
        said = []

        def twice() -> str:
            for _ in range(2):
                with pytest.raises(TokenPinError) as refusal:
                    TokenWrapper(wrong)
                said.append(f"{refusal.value} {refusal.value.__cause__} {refusal.value.__context__!r}")
            return " | ".join(said)

        told = in_child(twice)
        first, second = told.split(" | ")
        assert "令牌拒绝了口令" in first
        assert "已被拒绝，更正后请重启进程" in second
        assert WRONG_PIN not in told
        assert WRONG_PIN not in repr(wrong)

    def test_a_pin_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = soft_hsm().wrapper("suite").check_value
        named = soft_hsm().uri("suite", pin="env:PORTAL_TEST_PIN")
        monkeypatch.setenv("PORTAL_TEST_PIN", PIN)
        value = in_child(lambda: load_wrapper(named).check_value)
        assert value == kept
        monkeypatch.delenv("PORTAL_TEST_PIN")
        with pytest.raises(TokenPinError):
            in_child(lambda: load_wrapper(named))

    @pytest.mark.parametrize(
        ("content", "mode", "error"),
        [
            (PIN, 0o644, KeyPermissionError),
            ("", 0o600, TokenPinError),
            ("\n", 0o600, TokenPinError),
            ("\udcff", 0o600, TokenPinError),
        ],
    )
    def test_a_pin_file_that_is_none(
        self, tmp_path: Path, content: str, mode: int, error: type[PortalError]
    ) -> None:
        path = tmp_path / "pin"
        path.write_bytes(content.encode(errors="surrogateescape"))
        path.chmod(mode)
        with pytest.raises(error) as refusal:
            PinSource(file=str(path)).read()
        assert PIN not in str(refusal.value)
        with pytest.raises(TokenPinError):
            PinSource(file=str(tmp_path / "nowhere")).read()


class TestTheStoreOnAToken:
    def test_a_store_of_one_token_key_is_refused_by_another(
        self, wrapper: TokenWrapper, tmp_path: Path
    ) -> None:
        store = KeyStore(tmp_path / "keys", wrapper)
        key_id = store.create(KeyPurpose.PACKAGE, "P-1")
        for foreign in (soft_hsm().wrapper("other"), SECRET):
            with pytest.raises(ForeignKekError):
                KeyStore(tmp_path / "keys", foreign)
        assert KeyStore(tmp_path / "keys", load_wrapper(soft_hsm().uri("suite"))).key(key_id)

    def test_a_kek_is_made_in_a_token(self, tmp_path: Path) -> None:
        uri = soft_hsm().uri("made-by-command")
        assert create_kek(uri) == load_wrapper(uri).check_value
        with pytest.raises(KeyExistsError):
            create_kek(uri)
