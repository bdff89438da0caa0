"""The PKCS#11 URI of a wrapping key: read as RFC 7512 says, or refused without repeating a PIN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.crypto import KeyFormatError
from portal.core.key_uri import PinSource, TokenAddress, parse_address
from tests.core.key_tokens import PIN


class TestAddresses:
    def test_a_uri_is_read(self) -> None:
        uri = (
            "pkcs11:token=My%20token;object=%E4%B8%BB;serial=0a1b;type=secret-key"
            "?module-path=/usr/lib/x.so&pin-source=file:/etc/portal/pin"
        )
        assert parse_address(uri) == TokenAddress(
            module="/usr/lib/x.so", token="My token", label="主", serial="0a1b",
            pin=PinSource(file="/etc/portal/pin"),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("source", "read"),
        [
            ("", PinSource("PORTAL_KEK_PIN")),
            ("&pin-source=env:MY_PIN", PinSource("MY_PIN")),
            ("&pin-source=file:///run/pin", PinSource(file="/run/pin")),
        ],
    )
    def test_where_the_pin_comes_from(self, source: str, read: PinSource) -> None:
        assert parse_address(f"pkcs11:token=t;object=o?module-path=/m{source}").pin == read

    @pytest.mark.parametrize(
        "uri",
        [
            "pkcs11:",
            "pkcs11:token=t;object=o",
            "pkcs11:token=t?module-path=/m",
            "pkcs11:object=o?module-path=/m",
            "pkcs11:token=;object=o?module-path=/m",
            "pkcs11:token=t;token=u;object=o?module-path=/m",
            "pkcs11:token=t;object=o;slot-id=1?module-path=/m",
            "pkcs11:token=t;object=o;type=cert?module-path=/m",
            "pkcs11:token=t;object=o?module-path=relative.so",
            "pkcs11:token=t;object=o?module-path=/m&pin-value=4711-testing-0815",
            "pkcs11:token=t;object=o;pin-value=4711-testing-0815?module-path=/m",
            "pkcs11:token=t;object=o?module-path=/m&pin-source=4711-testing-0815",
            "pkcs11:token=t;object=o?module-path=/m&pin-source=|cat pin",
            "pkcs11:token=t;object=o?module-path=/m&pin-source=file:pin",
            "pkcs11:token=%00;object=o?module-path=/m",
            "pkcs11:token=%ff;object=o?module-path=/m",
            "https://token",
        ],
    )
    def test_a_uri_that_is_none_is_refused_without_repeating_a_pin(self, uri: str) -> None:
        with pytest.raises(KeyFormatError) as refusal:
            parse_address(uri)
        assert PIN not in str(refusal.value)

    @given(text=st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        with pytest.raises(KeyFormatError):
            parse_address(f"pkcs11:{text}")
