"""Proof that a party holds the private half of a key: a signature over the key and the party's code."""

from __future__ import annotations

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.core.seal_envelope import check_party

_PURPOSE = "sscard-key-registration-1"


def prove_possession(party: str, key: Sm2PrivateKey) -> str:
    """Return the proof that goes to the registry with the public key, as hex digits."""
    return key.sign(_content(party, key.public)).hex()


def proves_possession(party: str, key: Sm2PublicKey, proof: str) -> bool:
    """Say whether `proof` was made with the private half of `key` for this party; never raises."""
    try:
        signature = bytes.fromhex(proof.strip())
    except ValueError:
        return False
    return key.verify(signature, _content(party, key))


def _content(party: str, key: Sm2PublicKey) -> bytes:
    """Return what is signed; its form is no envelope's, so a proof is never taken for a package."""
    return f"{_PURPOSE}\n{check_party(party, 'sender')}\n{key.hex()}\n".encode()
