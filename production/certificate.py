"""Destruction certificates: canonical content, its SM2 signature, and the PDF people file (R-22)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typst

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey, sm3

_compiling = threading.Lock()  # the compiler keeps its inputs in itself
TEMPLATE = Path(__file__).parent / "documents" / "certificate.typ"


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return what is signed: JSON in UTF-8, keys sorted, no white space."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(content: Mapping[str, Any]) -> str:
    """Return the SM3 digest of the canonical content, as the PDF and the JSON show it."""
    return sm3(canonical(content)).hex()


def sign(content: Mapping[str, Any], key: Sm2PrivateKey) -> bytes:
    """Return the DER signature over the canonical content."""
    return key.sign(canonical(content))


def verify(content: Mapping[str, Any], signature: bytes, key: Sm2PublicKey) -> bool:
    """Say whether the content is what the key's owner signed; needs no database."""
    return key.verify(signature, canonical(content))


@lru_cache(maxsize=1)
def _compiler() -> typst.Compiler:
    spec = find_spec("noto_cjk_sans_otc")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    fonts = typst.Fonts(include_system_fonts=False, font_paths=list(spec.submodule_search_locations))
    return typst.Compiler(TEMPLATE.parent, font_paths=fonts)


def to_pdf(content: Mapping[str, Any], signature: bytes) -> bytes:
    """Return the certificate as PDF with embedded fonts."""
    inputs = {
        "content": canonical(content).decode(),
        "digest": digest(content),
        "signature": signature.hex(),
    }
    with _compiling:
        pdf = _compiler().compile(input=TEMPLATE, format="pdf", sys_inputs=inputs)
    assert isinstance(pdf, bytes)
    return pdf
