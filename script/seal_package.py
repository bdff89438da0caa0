#!/usr/bin/env python3
"""Seal packages for the portal, open what it sends, and make the key pair to do both with.

Stands alone: needs Python 3.11, `cryptography` and `gmssl_pyx`, no Django and no database.

    seal_package.py --generate-key sender.pem
    seal_package.py --prove sender.pem --sender PROVINCE
    seal_package.py --sender PROVINCE --sender-key sender.pem --recipient PORTAL \\
        --recipient-key portal.pem.pub --number 20261123-001 \\
        --in package-folder --out 20261123-001.sealed
    seal_package.py --sender ICBC --sender-key sender.pem --recipient PORTAL \\
        --recipient-key portal.pem.pub --number 20261123-001 \\
        --accounts accounts.xlsx --out 20261123-001.sealed
    seal_package.py --open return.scp --sender PORTAL --sender-key portal.pem.pub \\
        --recipient PROVINCE --recipient-key sender.pem --out return.zip

Exit codes: 0 done, 1 a library is missing, 2 wrong arguments, 3 key refused, 4 input unreadable,
5 output not writable, 6 the package to open is refused.
"""

# ruff: noqa: T201 - a command line answers by printing
from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from portal.core.account_parcel_write import ENDINGS, MOST_FILES, pack_parcel
    from portal.core.crypto import KeyFormatError, Sm2PrivateKey, Sm2PublicKey
    from portal.core.errors import PortalError
    from portal.core.seal import (
        check_payload,
        open_container,
        read_envelope,
        seal_package,
        unwrap_content_key,
        verify_envelope,
    )
    from portal.core.seal_proof import prove_possession
except ImportError as exc:
    raise SystemExit(f"缺少 {exc.name}，请先 pip install cryptography gmssl_pyx") from None

EXIT_OK, EXIT_USAGE, EXIT_KEY, EXIT_INPUT, EXIT_OUTPUT, EXIT_REFUSED = 0, 2, 3, 4, 5, 6

COPY_SIZE = 1 << 20


class SealFailedError(Exception):
    """Something the sender can put right, with the exit code that tells it to a script."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.generate_key:
            _generate_key(options.generate_key)
        elif options.prove:
            _prove(options)
        elif options.open:
            _open(options)
        else:
            _seal(options)
    except SealFailedError as exc:
        print(f"错误：{exc}", file=sys.stderr)
        return exc.exit_code
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="生成和打开密封数据包（SM2/SM3/SM4）")
    parser.add_argument("--generate-key", type=Path, metavar="FILE", help="只生成密钥对：FILE 与 FILE.pub")
    parser.add_argument("--prove", type=Path, metavar="FILE", help="输出持有私钥 FILE 的证明，登记公钥时用")
    parser.add_argument("--open", type=Path, metavar="FILE", help="打开收到的数据包，解密为 --out 的 ZIP")
    parser.add_argument("--sender", help="发送方代码")
    parser.add_argument(
        "--sender-key", type=Path, metavar="FILE", help="发送方私钥（权限 0600）；打开时为发送方公钥"
    )
    parser.add_argument("--recipient", help="接收方代码")
    parser.add_argument(
        "--recipient-key", type=Path, metavar="FILE", help="接收方公钥；打开时为接收方私钥（权限 0600）"
    )
    parser.add_argument("--number", help="数据包编号，每个发送方不得重复")
    parser.add_argument("--in", dest="source", type=Path, metavar="DIR_OR_ZIP", help="数据目录或 ZIP")
    parser.add_argument(
        "--accounts", type=Path, nargs="+", metavar="FILE", help="银行账号文件（代替 --in），CSV 或 XLSX"
    )
    parser.add_argument("--out", dest="target", type=Path, metavar="FILE", help="输出文件，不得已存在")
    return parser


def _require(options: argparse.Namespace, *names: str) -> None:
    missing = [name for name in names if getattr(options, name) is None]
    if missing:
        raise SealFailedError(EXIT_USAGE, f"缺少参数：{', '.join(missing)}")


def _seal(options: argparse.Namespace) -> None:
    _require(options, "sender", "sender_key", "recipient", "recipient_key", "number", "target")
    if (options.source is None) == (options.accounts is None):
        raise SealFailedError(EXIT_USAGE, "请给出 --in（source）或 --accounts 之一")
    sender_key = _private_key(options.sender_key)
    recipient_key = _public_key(options.recipient_key)
    with _content(options) as source, _new_file(options.target) as target:
        try:
            envelope = seal_package(
                source,
                target,
                sender=options.sender,
                sender_key=sender_key,
                recipient=options.recipient,
                recipient_key=recipient_key,
                package_number=options.number,
                created_at=datetime.now(UTC),
            )
        except PortalError as exc:
            raise SealFailedError(EXIT_USAGE, str(exc)) from exc
    print(f"{options.target} 已密封：{envelope.payload_length} 字节，摘要 {envelope.digest().hex()}")


def _prove(options: argparse.Namespace) -> None:
    """Print public key fingerprint and proof, which the registry asks for."""
    _require(options, "sender")
    key = _private_key(options.prove)
    try:
        proof = prove_possession(options.sender, key)
    except PortalError as exc:
        raise SealFailedError(EXIT_USAGE, str(exc)) from exc
    print(f"公钥指纹 {key.public.fingerprint()}\n{proof}")


def _open(options: argparse.Namespace) -> None:
    """Check sender, recipient, signature, digest and every chunk; only then write the content."""
    _require(options, "sender", "sender_key", "recipient", "recipient_key", "target")
    sender_key, recipient_key = _public_key(options.sender_key), _private_key(options.recipient_key)
    try:
        with options.open.open("rb") as container:
            envelope = read_envelope(container)
            if envelope.sender != options.sender:
                raise SealFailedError(EXIT_REFUSED, f"发送方是 {envelope.sender}，不是 {options.sender}")
            verify_envelope(envelope, recipient=options.recipient, sender_key=sender_key)
            check_payload(container, envelope)
            content = open_container(container, envelope, unwrap_content_key(envelope, recipient_key))
            content.check()
            with _new_file(options.target, mode=0o600) as target:
                shutil.copyfileobj(content, target, COPY_SIZE)
    except PortalError as exc:
        raise SealFailedError(EXIT_REFUSED, f"{options.open} 拒收（{exc.code}）：{exc}") from exc
    except OSError as exc:
        raise SealFailedError(EXIT_INPUT, f"无法读取 {options.open}：{exc.strerror or exc}") from exc
    print(f"{options.target} 已解密：{envelope.package_number}，{envelope.payload_length} 字节")


def _generate_key(path: Path) -> None:
    """Write the private key for its owner only, and the public key beside it."""
    key = Sm2PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    _write_new(path, key.to_pem(), 0o600)
    _write_new(public, key.public.to_pem(), 0o644)
    print(f"私钥 {path}，公钥 {public}，公钥指纹 {key.public.fingerprint()}")


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except OSError as exc:
        raise SealFailedError(EXIT_OUTPUT, f"无法写入 {path}：{exc.strerror}") from exc


def _private_key(path: Path) -> Sm2PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise SealFailedError(EXIT_KEY, f"私钥文件 {path} 他人可读，请改为 0600")
        return Sm2PrivateKey.from_pem(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError, KeyFormatError) as exc:
        raise SealFailedError(EXIT_KEY, f"私钥 {path} 不可用：{exc}") from exc


def _public_key(path: Path) -> Sm2PublicKey:
    try:
        return Sm2PublicKey.from_pem(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError, KeyFormatError) as exc:
        raise SealFailedError(EXIT_KEY, f"公钥 {path} 不可用：{exc}") from exc


def _content(options: argparse.Namespace) -> BinaryIO:
    if options.accounts is None:
        return _package(options.source)
    try:
        return _parcel(options.accounts, options.sender, options.number)
    except OSError as exc:
        raise SealFailedError(EXIT_INPUT, f"无法读取账号文件：{exc.filename or ''} {exc.strerror}") from exc


def _parcel(paths: list[Path], sender: str, number: str) -> BinaryIO:
    """Pack account files as the portal reads them; refuse at once what it would refuse."""
    names = [path.name for path in paths]
    wrong = [name for name in names if not name.lower().endswith(ENDINGS)]
    if wrong or len(set(names)) != len(names) or len(names) > MOST_FILES:
        expected = f"{' '.join(ENDINGS)}，不重名，至多 {MOST_FILES} 个"
        raise SealFailedError(EXIT_INPUT, f"账号文件须为 {expected}：{'、'.join(wrong or names)}")
    return pack_parcel(sender, number, paths)


def _package(path: Path) -> BinaryIO:
    """Open a ready ZIP, or pack a folder's files into a temporary ZIP without a name."""
    try:
        return _packed(path) if path.is_dir() else _ready_zip(path)
    except OSError as exc:
        raise SealFailedError(EXIT_INPUT, f"无法读取 {path}：{exc.strerror or exc}") from exc


def _ready_zip(path: Path) -> BinaryIO:
    file = path.open("rb")
    if not zipfile.is_zipfile(file):
        file.close()
        raise SealFailedError(EXIT_INPUT, f"{path} 不是目录，也不是 ZIP")
    file.seek(0)
    return file


def _packed(folder: Path) -> BinaryIO:
    packed: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        _pack(folder, packed)
    except BaseException:
        packed.close()
        raise
    packed.seek(0)
    return packed


def _pack(folder: Path, target: BinaryIO) -> None:
    """Store a folder's files uncompressed (photos do not shrink), in a fixed order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise SealFailedError(EXIT_INPUT, f"目录 {folder} 中没有文件")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())


@contextmanager
def _new_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a file that appears under its name only when it is whole."""
    if path.exists():
        raise SealFailedError(EXIT_OUTPUT, f"输出文件 {path} 已存在")
    partial = path.with_name(path.name + ".part")
    try:
        file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
    except OSError as exc:
        raise SealFailedError(EXIT_OUTPUT, f"无法写入 {partial}：{exc.strerror}") from exc
    try:
        with file:
            yield file
        partial.rename(path)
    except OSError as exc:
        raise SealFailedError(EXIT_OUTPUT, f"写入 {path} 失败：{exc.strerror or exc}") from exc
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
