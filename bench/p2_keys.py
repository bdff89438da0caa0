"""P2: the keys of cards, 20 derivations of two SM4 blocks each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmssl.sm4 import SM4_ENCRYPT, CryptSM4

from bench.compare import Comparison, Target, Variant
from production.personalization.keys import derivation_block, derive_card_keys

KEYS = 20
CARDS = 1000
CARDS_OF_GMSSL = 10


Masters = dict[str, bytes]


def derived(masters: Masters, factors: list[bytes]) -> int:
    return derive_card_keys(masters, factors).count


def one_cipher_a_block(masters: Masters, factors: list[bytes]) -> int:
    for factor in factors:
        for master in masters.values():
            encryptor = Cipher(algorithms.SM4(master), modes.ECB()).encryptor()
            encryptor.update(derivation_block(factor))
    return len(factors)


def with_gmssl(masters: Masters, factors: list[bytes]) -> int:
    for factor in factors[:CARDS_OF_GMSSL]:
        for master in masters.values():
            cipher = CryptSM4()
            cipher.set_key(master, SM4_ENCRYPT)
            cipher.crypt_ecb(derivation_block(factor))
    return CARDS_OF_GMSSL


def bare_columns(masters: Masters, factors: list[bytes]) -> int:
    column = b"".join(map(derivation_block, factors))
    for master in masters.values():
        Cipher(algorithms.SM4(master), modes.ECB()).encryptor().update(column)
    return len(factors)


def comparisons() -> Iterator[Comparison]:
    """Compare derivation by column with one cipher a block and with gmssl."""
    masters = {f"K{number:02d}": os.urandom(16) for number in range(KEYS)}
    factors = [os.urandom(8) for _ in range(CARDS)]
    limit = "one ECB context a master key"
    variants = [
        Variant("ours", "derive_card_keys", partial(derived, masters, factors)),
        Variant("peer", "cryptography, one cipher a block", partial(one_cipher_a_block, masters, factors)),
        Variant("peer", "gmssl", partial(with_gmssl, masters, factors)),
        Variant("limit", limit, partial(bare_columns, masters, factors)),
    ]
    targets = [Target("gmssl", 100), Target(limit, 0.5)]
    title = f"keys of a card ({KEYS} derivations)"
    yield Comparison("P2", title, "cards", variants, targets, clock=time.process_time)
