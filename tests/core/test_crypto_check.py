"""Checking a GCM tag without decrypting agrees with decrypting, text for text (SP 800-38D, 7.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.crypto import NONCE_SIZE, TAG_SIZE, GcmKey, TamperedError

NONCES = st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE)
TEXTS = st.one_of(st.binary(max_size=70), st.sampled_from([bytes(16384), b"x" * 16383, b"y" * 4097]))


@given(key=st.binary(min_size=16, max_size=16), nonce=NONCES, text=TEXTS, context=st.binary(max_size=50))
def test_what_was_sealed_is_accepted_and_any_flipped_bit_is_not(
    key: bytes, nonce: bytes, text: bytes, context: bytes
) -> None:
    gcm = GcmKey(key)
    sealed = gcm.encrypt(nonce, text, context)
    gcm.check(nonce, sealed[:-TAG_SIZE], sealed[-TAG_SIZE:], context)
    for at in {0, len(sealed) // 2, len(sealed) - TAG_SIZE, len(sealed) - 1}:
        spoiled = bytearray(sealed)
        spoiled[at] ^= 1
        with pytest.raises(TamperedError):
            gcm.check(nonce, bytes(spoiled[:-TAG_SIZE]), bytes(spoiled[-TAG_SIZE:]), context)


@given(
    nonce=NONCES, text=st.binary(max_size=70), context=st.binary(max_size=50), other=st.binary(max_size=50)
)
def test_another_context_nonce_length_or_key_is_not_accepted(
    nonce: bytes, text: bytes, context: bytes, other: bytes
) -> None:
    gcm = GcmKey(b"k" * 16)
    sealed = gcm.encrypt(nonce, text, context)
    ciphertext, tag = sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]
    turned = bytes((nonce[0] ^ 1,)) + nonce[1:]
    wrong = [
        (gcm, turned, ciphertext, context),
        (gcm, nonce, ciphertext + b"\0", context),
        (gcm, nonce, ciphertext, context + b"\0"),
        (GcmKey(b"K" * 16), nonce, ciphertext, context),
        *([(gcm, nonce, ciphertext, other)] if other != context else []),
    ]
    for key, given_nonce, given_text, given_context in wrong:
        with pytest.raises(TamperedError):
            key.check(given_nonce, given_text, tag, given_context)


@given(text=st.binary(min_size=1, max_size=40), context=st.binary(min_size=1, max_size=40))
def test_a_byte_moved_from_context_to_text_is_not_accepted(text: bytes, context: bytes) -> None:
    """The padding of the parts must not make two different splits equal."""
    gcm, nonce = GcmKey(b"k" * 16), bytes(NONCE_SIZE)
    sealed = gcm.encrypt(nonce, text, context)
    with pytest.raises(TamperedError):
        gcm.check(nonce, context[-1:] + sealed[:-TAG_SIZE], sealed[-TAG_SIZE:], context[:-1])
