#!/usr/bin/env python3
"""Verify a certificate of destruction away from the portal: who signed it, and that nothing was changed.

Stands alone: needs Python 3.11 and `gmssl_pyx` (the C library GmSSL; no OpenSSL, no Django, no other file of
this project). The public key should have come by another way than the certificate.

    verify_certificate.py [--public-key portal.pub] [--pdf certificate.pdf] certificate.json

Exit codes: 0 it holds, 1 it does not (the fault is named), 2 it could not be checked.
"""

# ruff: noqa: T201 - a command line answers by printing
from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from gmssl_pyx import GmsslInnerError, sm2_verify, sm3_hash
except ImportError as exc:  # Python's own exit code would say that the certificate does not hold
    print(f"无法核对：缺少 {exc.name}，请先 pip install gmssl_pyx", file=sys.stderr)
    raise SystemExit(2) from None

HOLDS, BROKEN, UNCHECKED = 0, 1, 2
MOST_BYTES = 64 << 20
# SubjectPublicKeyInfo of an SM2 key up to its 64 bytes x || y (GM/T 0009, RFC 5480).
_KEY_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d03420004")
_TEXTS = (
    "number",
    "subject",
    "origin",
    "occasion",
    "destroyed_at",
    "issuer",
    "key_fingerprint",
    "people_digest",
)


class UncheckedError(Exception):
    """The files given cannot be read as what they should be."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        paper = _paper(options.certificate)
        trusted = _key(_read(options.public_key).decode("ascii", "replace")) if options.public_key else None
        faults = list(_faults(paper, trusted))
        if options.pdf:
            faults += _pdf_faults(paper, _read(options.pdf))
    except (UncheckedError, OSError) as exc:
        print(f"无法核对：{exc}", file=sys.stderr)
        return UNCHECKED
    if faults:
        print("证明无效：", *faults, sep="\n")
        return BROKEN
    _report(paper, trusted)
    return HOLDS


def canonical(content: Any) -> bytes:
    """Return what was signed: JSON in UTF-8, keys sorted, no white space."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _faults(paper: dict[str, Any], trusted: bytes | None) -> Iterator[str]:
    content, signed = paper["content"], canonical(paper["content"])
    own = _key(paper["public_key"])
    fingerprint = bytes(sm3_hash(own))[:8].hex()
    if trusted is not None and own != trusted:
        wanted = bytes(sm3_hash(trusted))[:8].hex()
        yield f"公钥不符：证明内的公钥（{fingerprint}）不是所给的平台公钥（{wanted}）"
    if content.get("key_fingerprint") != fingerprint:
        yield f"公钥指纹不符：内容写明 {content.get('key_fingerprint')}，证明内的公钥为 {fingerprint}"
    digest = bytes(sm3_hash(signed)).hex()
    if paper["digest"] != digest:
        yield f"内容摘要不符：应为 {paper['digest']}，实为 {digest}"
    if not _is_signed(trusted or own, signed, paper["signature"]):
        yield "SM2 签名不符：内容、签名或公钥被改动"
    yield from _contradictions(content)


def _is_signed(key: bytes, signed: bytes, signature: str) -> bool:
    try:
        return bool(sm2_verify(key, signed, bytes.fromhex(signature)))
    except (GmsslInnerError, ValueError):
        return False


def _contradictions(content: dict[str, Any]) -> Iterator[str]:
    """Yield what the content says twice and differently."""
    facts = dict(content["facts"])
    counted = {
        "持卡人记录": f"{content['record_count']:,} 条",
        "银行账号行": f"{content['account_count']:,} 条",
        "密钥": f"{len(content['keys']):,} 个",
        "密封文件": f"{len(content['files']):,} 个",
        "销毁人员摘要（SM3）": content["people_digest"],
    }
    for label, value in counted.items():
        if not str(facts.get(label, "")).startswith(value):
            yield f"内容自相矛盾：{label} 写为 {facts.get(label)}，明细为 {value}"
    names = [str(name) for _role, name in content["signers"]]
    if len(names) != 2 or len(set(names)) != 2 or not all(names):
        yield f"应有两名不同的经办人，实为：{'、'.join(names)}"


def _pdf_faults(paper: dict[str, Any], pdf: bytes) -> list[str]:
    if not pdf.startswith(b"%PDF"):
        raise UncheckedError("所给文件不是 PDF")
    return [] if f"SM3:{paper['digest']}".encode() in pdf else ["PDF 所载摘要与 JSON 不同：不是同一份证明"]


def _paper(path: Path) -> dict[str, Any]:
    try:
        paper = json.loads(_read(path))
        content = paper["content"]
        texts = [paper[name] for name in ("digest", "signature", "public_key")] + [content[n] for n in _TEXTS]
        counts = [content[name] for name in ("record_count", "account_count")]
        lists = [content[name] for name in ("keys", "files", "facts", "signers")]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UncheckedError(f"{path.name} 不是销毁证明的 JSON") from None
    sound = all(isinstance(text, str) for text in texts) and all(type(count) is int for count in counts)
    pairs = [pair for part in lists[2:] for pair in (part if isinstance(part, list) else [None])]
    if not sound or not all(isinstance(part, list) for part in lists) or not all(map(_is_pair, pairs)):
        raise UncheckedError(f"{path.name} 的栏目类型不对")
    return dict(paper)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _key(pem: str) -> bytes:
    """Return the 64 bytes of a `PUBLIC KEY` block."""
    head, tail = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
    body = pem.strip().removeprefix(head).removesuffix(tail)
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise UncheckedError("公钥不是 PEM 格式") from None
    if len(der) != len(_KEY_HEAD) + 64 or not der.startswith(_KEY_HEAD):
        raise UncheckedError("公钥不是 SM2 公钥")
    return der[-64:]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UncheckedError(f"{path.name} 过大")
    return content


def _report(paper: dict[str, Any], trusted: bytes | None) -> None:
    content = paper["content"]
    print("证明有效")
    print(f"编号：{content['number']}")
    print(f"对象：{content['subject']}（{content['origin']}）{content['occasion']}")
    print(f"记录：{content['record_count']:,} 条；密钥：{len(content['keys']):,} 个")
    print("经办：" + "、".join(f"{role} {name}" for role, name in content["signers"]))
    print(f"摘要（SM3）：{paper['digest']}")
    if trusted is None:
        print(f"未指定 --public-key：按证明自带公钥核对，请另行比对指纹 {content['key_fingerprint']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="脱机校验数据销毁证明（SM2 签名、SM3 摘要）")
    parser.add_argument("certificate", type=Path, help="从平台下载的 JSON")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="平台公钥（PEM），另行取得")
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="同一证明的 PDF，核对两者摘要相同")
    return parser


if __name__ == "__main__":
    sys.exit(main())
