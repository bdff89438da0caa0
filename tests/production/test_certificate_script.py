"""The stand-alone script that verifies certificates, against a second implementation and forgeries (R-22)."""

from __future__ import annotations

import copy
import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gmalg
import pytest
from gmssl.sm2 import CryptSM2
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import Sm2PrivateKey
from production.certificate import canonical, digest, sign, to_pdf
from tests.production.test_certificate import CONTENT, KEY

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "verify_certificate.py"
MAIN: Callable[[list[str]], int] = runpy.run_path(str(SCRIPT))["main"]
SOUND: dict[str, Any] = {
    **CONTENT,
    "account_count": 1998,
    "facts": [
        ["销毁人员摘要（SM3）", CONTENT["people_digest"]],
        ["持卡人记录", "2,000 条（含历次版本共 2,003 条）"],
        ["银行账号行", "1,998 条"],
        ["密封文件", "2 个"],
        ["密钥", "2 个"],
    ],
}
SIGNER = b"1234567812345678"


def paper(content: dict[str, Any] = SOUND, key: Sm2PrivateKey = KEY) -> dict[str, Any]:
    """Return a certificate as the portal gives it out."""
    return {
        "content": copy.deepcopy(content),
        "digest": digest(content),
        "signature": sign(content, key).hex(),
        "public_key": key.public.to_pem(),
    }


WHOLE = json.dumps(paper(), ensure_ascii=False).encode()


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Write a paper and run the script on it; return the exit code and what it said."""
    (tmp_path / "portal.pub").write_text(KEY.public.to_pem(), "ascii")

    def run(whole: Any, *options: str, trusted: bool = True) -> tuple[int, str]:
        path = tmp_path / "certificate.json"
        path.write_text(whole if isinstance(whole, str) else json.dumps(whole, indent=2), "utf-8")
        key = ["--public-key", str(tmp_path / "portal.pub")] if trusted else []
        code = MAIN([*key, *options, str(path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


class TestSound:
    def test_it_holds(self, check: Any) -> None:
        """R-22: with the public key alone; both signers are named."""
        code, said = check(paper())
        assert code == 0
        assert said.splitlines() == [
            "证明有效",
            f"编号：{SOUND['number']}",
            f"对象：{SOUND['subject']}（{SOUND['origin']}）已按合同要求在签收后销毁",
            "记录：2,000 条；密钥：2 个",
            "经办：签收确认 bank、销毁执行 clerk",
            f"摘要（SM3）：{digest(SOUND)}",
        ]

    def test_without_a_trusted_key_it_says_what_to_compare(self, check: Any) -> None:
        code, said = check(paper(), trusted=False)
        assert (code, KEY.public.fingerprint() in said, "请另行比对" in said) == (0, True, True)

    def test_the_pdf_carries_the_same_digest(self, check: Any, tmp_path: Path) -> None:
        """R-22: people file the PDF, machines check the JSON."""
        whole = paper()
        pdf = tmp_path / "c.pdf"
        pdf.write_bytes(to_pdf(SOUND, bytes.fromhex(whole["signature"])))
        assert check(whole, "--pdf", str(pdf))[0] == 0
        other = {**SOUND, "number": "XH-OTHER"}
        assert check(paper(other), "--pdf", str(pdf)) == (
            1, "证明无效：\nPDF 所载摘要与 JSON 不同：不是同一份证明\n",
        )  # fmt: skip

    def test_it_runs_alone(self, tmp_path: Path) -> None:
        """R-22: one copied file, nothing of this project on the path, and no OpenSSL."""
        script = tmp_path / "verify.py"
        script.write_bytes(SCRIPT.read_bytes())
        (tmp_path / "c.json").write_text(json.dumps(paper()), "utf-8")
        watch = (
            "import runpy, sys; sys.argv = ['verify.py', 'c.json']\n"
            "try: runpy.run_path('verify.py', run_name='__main__')\n"
            "except SystemExit as done: code = done.code\n"
            "names = {name.split('.')[0] for name in sys.modules}\n"
            "print(code, sorted(names & {'portal', 'production', 'django', 'cryptography', 'ssl'}))"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", watch], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "0 []"


class TestSecondImplementation:
    def test_gmalg_and_gmssl_verify_the_same_signature(self) -> None:
        """R-22: the certificate does not depend on one library's idea of SM2."""
        whole = paper()
        raw = KEY.public.raw
        r, s = _numbers(whole["signature"])
        message = canonical(SOUND)
        peer = gmalg.SM2(uid=SIGNER, pk=b"\x04" + raw)
        assert peer.verify(message, r.to_bytes(32, "big"), s.to_bytes(32, "big"))
        assert not peer.verify(message + b" ", r.to_bytes(32, "big"), s.to_bytes(32, "big"))
        other = CryptSM2(private_key="", public_key=raw.hex())
        assert other.verify_with_sm3(f"{r:064x}{s:064x}", message)


def _numbers(signature: str) -> tuple[int, int]:
    """Return r and s of a DER signature."""
    der = bytes.fromhex(signature)
    length = der[3]
    return int.from_bytes(der[4 : 4 + length], "big"), int.from_bytes(der[6 + length :], "big")


class TestForgeries:
    @pytest.mark.parametrize("name", sorted(SOUND))
    def test_a_changed_statement(self, check: Any, name: str) -> None:
        """R-22: with the digest left, made anew, and signed by somebody else."""
        value = SOUND[name]
        changed = {**SOUND, name: value + 1 if isinstance(value, int) else value[:-1]}
        for whole in (
            paper() | {"content": changed},
            paper() | {"content": changed, "digest": digest(changed)},
        ):
            code, said = check(whole)
            assert code == 1
            assert "SM2 签名不符" in said
        forger = Sm2PrivateKey.generate()
        code, said = check(paper({**changed, "key_fingerprint": forger.public.fingerprint()}, forger))
        assert code == 1
        assert "公钥不符" in said

    def test_what_is_wrong_is_named(self, check: Any) -> None:
        whole = paper()
        assert "内容摘要不符" in check(whole | {"digest": "00" * 32})[1]
        assert check(whole | {"signature": "00"}) == (1, "证明无效：\nSM2 签名不符：内容、签名或公钥被改动\n")
        assert "SM2 签名不符" in check(whole | {"signature": "zz"})[1]
        stranger = Sm2PrivateKey.generate().public.to_pem()
        assert "公钥指纹不符" in check(whole | {"public_key": stranger})[1]

    @pytest.mark.parametrize(
        ("label", "wrong"),
        [("持卡人记录", "1 条"), ("银行账号行", "0 条"), ("密封文件", "3 个"), ("密钥", "9 个")],
    )
    def test_a_content_that_contradicts_itself(self, check: Any, label: str, wrong: str) -> None:
        """R-22: even where the signature holds."""
        facts = [[name, wrong if name == label else text] for name, text in SOUND["facts"]]
        code, said = check(paper({**SOUND, "facts": facts}))
        assert (code, label in said, "自相矛盾" in said) == (1, True, True)

    @pytest.mark.parametrize("names", [["clerk", "clerk"], ["clerk"], ["clerk", ""], []])
    def test_two_different_people(self, check: Any, names: list[str]) -> None:
        code, said = check(paper({**SOUND, "signers": [["经办", name] for name in names]}))
        assert (code, "两名不同的经办人" in said) == (1, True)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", "{}", '{"content": []}', "[" * 100_000, json.dumps(paper() | {"digest": 5}),
         json.dumps(paper({**SOUND, "keys": "abc"})), json.dumps(paper({**SOUND, "facts": [["a", 1]]})),
         json.dumps(paper({**SOUND, "record_count": True})),
         json.dumps(paper() | {"public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"})],
    )  # fmt: skip
    def test_what_is_no_certificate_is_not_checked(self, check: Any, text: str) -> None:
        code, said = check(text)
        assert (code, said.startswith("无法核对：")) == (2, True)

    def test_files_that_are_not_there(self, check: Any, tmp_path: Path) -> None:
        assert MAIN([str(tmp_path / "none.json")]) == 2
        (tmp_path / "no.pdf").write_bytes(b"text")
        assert check(paper(), "--pdf", str(tmp_path / "no.pdf"))[0] == 2

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_changed_byte_of_the_file(self, data: st.DataObject) -> None:
        """R-22: never valid with another content; never an exception."""
        raw = bytearray(WHOLE)
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(raw)
            file.flush()
            code = MAIN([file.name])
        try:
            same = json.loads(raw)["content"] == SOUND
        except (ValueError, KeyError, TypeError):
            same = False
        assert code in ({0, 1, 2} if same else {1, 2})
