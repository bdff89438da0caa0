"""The destruction certificate: checked offline with the public key alone, and filed as PDF (R-22)."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from production.certificate import canonical, digest, sign, to_pdf, verify

KEY = Sm2PrivateKey.generate()
CONTENT: dict[str, Any] = {
    "number": "XH-DD20261123-95588-F-001-01",
    "batch": "DD20261123-95588-F-001-01",
    "order": "DD20261123-95588-F-001",
    "bank": "工商银行",
    "supplier": "中标人一",
    "subject": "批次 DD20261123-95588-F-001-01",
    "origin": "订单 DD20261123-95588-F-001，工商银行，中标人一",
    "occasion": "已按合同要求在签收后销毁",
    "signed_by": "bank",
    "signers": [["签收确认", "bank"], ["销毁执行", "clerk"]],
    "destroyed_by": "clerk",
    "destroyed_at": "2026-11-23 09:00:00",
    "issuer": "PORTAL",
    "key_fingerprint": KEY.public.fingerprint(),
    "method": "密钥已覆写并删除。",
    "people_digest": "ab" * 32,
    "facts": [["持卡人记录", "2,000 条（含历次版本共 2,003 条）"], ["密钥", "2 个"]],
    "record_count": 2000,
    "keys": ["0123456789abcdef" * 2, "fedcba9876543210" * 2],
    "files": ["batches/1/pass1/1.machine", "batches/1/pass1/1.report"],
    "packages": ["P-1"],
    "closed_packages": ["P-1"],
    "account_files": ["工行 [1] *账号* #1.xlsx"],
}
SIGNATURE = sign(CONTENT, KEY)


def pdf_text(content: dict[str, Any]) -> str:
    pages = PdfReader(io.BytesIO(to_pdf(content, SIGNATURE))).pages
    return "".join(page.extract_text() for page in pages)


class TestSignature:
    def test_it_holds_for_whoever_has_the_public_key(self) -> None:
        """R-22: JSON and PEM as they leave the portal; no database, no key store."""
        paper = json.loads(json.dumps({"content": CONTENT, "key": KEY.public.to_pem()}, indent=2))
        assert verify(paper["content"], SIGNATURE, Sm2PublicKey.from_pem(paper["key"]))

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_one_changed_byte_breaks_it(self, data: st.DataObject) -> None:
        """R-22: of the content or of the signature."""
        raw = canonical(CONTENT)
        place = data.draw(st.integers(0, len(raw) - 1))
        changed = bytearray(raw)
        changed[place] ^= data.draw(st.integers(1, 255))
        assert not KEY.public.verify(SIGNATURE, bytes(changed))
        spot = data.draw(st.integers(0, len(SIGNATURE) - 1))
        signature = bytearray(SIGNATURE)
        signature[spot] ^= data.draw(st.integers(1, 255))
        assert not verify(CONTENT, bytes(signature), KEY.public)

    @pytest.mark.parametrize("name", sorted(CONTENT))
    def test_every_statement_is_covered(self, name: str) -> None:
        value = CONTENT[name]
        changed = value + 1 if isinstance(value, int) else value[:-1]
        assert not verify({**CONTENT, name: changed}, SIGNATURE, KEY.public)
        assert not verify({k: v for k, v in CONTENT.items() if k != name}, SIGNATURE, KEY.public)

    def test_another_key_signed_nothing(self) -> None:
        assert not verify(CONTENT, SIGNATURE, Sm2PrivateKey.generate().public)
        assert not verify(CONTENT, b"", KEY.public)

    def test_the_order_of_fields_means_nothing(self) -> None:
        assert verify(dict(reversed(CONTENT.items())), SIGNATURE, KEY.public)


class TestPdf:
    def test_it_says_what_was_destroyed_and_by_whom(self) -> None:
        """R-22: number, batch, counts, keys, signature and both names, in Chinese."""
        text = "".join(pdf_text(CONTENT).split())
        for wanted in (
            "个人数据销毁证明", CONTENT["number"], CONTENT["order"], "工商银行", "2,000条",
            *CONTENT["keys"], "签收确认：bank", "销毁执行：clerk", "共2个", SIGNATURE.hex(), digest(CONTENT),
        ):  # fmt: skip
            assert wanted in text, wanted

    def test_markup_in_names_stays_text(self) -> None:
        """Names are values, never instructions to the typesetter."""
        name = "#panic() *粗* $x$ <b> @ref"
        text = pdf_text({**CONTENT, "origin": name})
        assert "".join(name.split()) in "".join(text.split())

    def test_many_keys_go_over_pages(self) -> None:
        content = {**CONTENT, "keys": [f"{place:032x}" for place in range(300)]}
        pages = PdfReader(io.BytesIO(to_pdf(content, SIGNATURE))).pages
        assert len(pages) > 1

    def test_many_threads_get_their_own(self) -> None:
        """A web server renders several at once with one compiler."""
        found: dict[int, str] = {}

        def render(place: int) -> None:
            found[place] = pdf_text({**CONTENT, "number": f"XH-{place:04d}"})

        threads = [threading.Thread(target=render, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(8))
        for place, text in found.items():
            assert f"XH-{place:04d}" in text
