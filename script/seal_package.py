#!/usr/bin/env python3
"""Seal a package of card-making data for the portal, or make the key pair to do it with.

Stands alone: needs Python 3.11, `cryptography` and `gmssl_pyx`, no Django and no database.

    seal_package.py --generate-key sender.pem
    seal_package.py --sender PROVINCE --sender-key sender.pem --recipient PORTAL \\
        --recipient-key portal.pem.pub --number 20261123-001 \\
        --in package-folder --out 20261123-001.sealed

Exit codes: 0 sealed, 2 wrong arguments, 3 key refused, 4 input unreadable, 5 output not writable.
"""

# ruff: noqa: T201 - a command line answers by printing
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from portal.core.crypto import KeyFormatError, Sm2PrivateKey, Sm2PublicKey
from portal.core.errors import PortalError
from portal.core.seal import seal_package

EXIT_OK, EXIT_USAGE, EXIT_KEY, EXIT_INPUT, EXIT_OUTPUT = 0, 2, 3, 4, 5


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
        else:
            _seal(options)
    except SealFailedError as exc:
        print(f"错误：{exc}", file=sys.stderr)
        return exc.exit_code
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="为制卡数据生成密封数据包（SM2/SM3/SM4）")
    parser.add_argument("--generate-key", type=Path, metavar="FILE", help="只生成密钥对：FILE 与 FILE.pub")
    parser.add_argument("--sender", help="发送方代码")
    parser.add_argument("--sender-key", type=Path, metavar="FILE", help="发送方私钥（权限 0600）")
    parser.add_argument("--recipient", help="接收方代码")
    parser.add_argument("--recipient-key", type=Path, metavar="FILE", help="接收方公钥")
    parser.add_argument("--number", help="数据包编号，每个发送方不得重复")
    parser.add_argument("--in", dest="source", type=Path, metavar="DIR_OR_ZIP", help="数据目录或 ZIP")
    parser.add_argument("--out", dest="target", type=Path, metavar="FILE", help="输出文件，不得已存在")
    return parser


def _seal(options: argparse.Namespace) -> None:
    needed = ("sender", "sender_key", "recipient", "recipient_key", "number", "source", "target")
    missing = [name for name in needed if getattr(options, name) is None]
    if missing:
        raise SealFailedError(EXIT_USAGE, f"缺少参数：{', '.join(missing)}")
    sender_key = _private_key(options.sender_key)
    recipient_key = _public_key(options.recipient_key)
    with _package(options.source) as source, _new_file(options.target) as target:
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
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that appears under its name only when it is whole."""
    if path.exists():
        raise SealFailedError(EXIT_OUTPUT, f"输出文件 {path} 已存在")
    partial = path.with_name(path.name + ".part")
    try:
        file = partial.open("xb")
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
