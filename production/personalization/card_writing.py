"""Commands that write a card: its keys, its records, its photo, its PIN; each secured by a MAC (R-25)."""

from __future__ import annotations

import os

from production.personalization.card_work import ENVIRONMENT, CardJob, short_id
from production.personalization.profile import Application, ElementaryFile
from production.personalization.script_commands import SEALED_BYTES, TRIES_LEFT, Phase, ScriptWriter
from production.personalization.tlv import decode_records

KEY_VERSION, KEY_TRIES, TRANSPORT_USAGE = 0x01, 0x0F, 0x08
TRANSPORT_ID = 0x00


def guard_blank(writer: ScriptWriter, job: CardJob) -> None:
    """Prove the lot's transport key before anything is written: a blank of another lot stops the script."""
    writer.select_root()
    refusal = ("transport_key_refused", "白卡的传输密钥与该批不符，没有写入")
    writer.prove(TRANSPORT_ID, job.transport_key, os.urandom(8), "核对传输密钥", refusal=refusal)


def write_keys(writer: ScriptWriter, job: CardJob) -> None:
    """Write every key of the profile, application by application, under the maker's transport key."""
    for application in job.profile.applications:
        keys = [key for key in job.profile.keys if key.application == application.name]
        if not keys:
            continue
        writer.select(application.aid, f"选择{application.title}")
        for key in keys:
            block = _key_block(writer, key.usage, job.keys[key.full_name])
            writer.write_key(key.key_id, block, job.transport_key, f"写密钥 {key.full_name}", Phase.WRITE)


def write_files(writer: ScriptWriter, job: CardJob) -> None:
    """Write every record of every file, and in the environment the photo and the first PIN."""
    for application in job.profile.applications:
        files = [file for file in application.files if _has_content(job, application, file)]
        if not files:
            continue
        writer.select(application.aid, f"选择{application.title}")
        key = job.update_key(application.name)
        for file in files:
            path = f"{application.name}/{file.file_id}"
            if file.source:
                _write_photo(writer, path, file, job.photo, key)
            else:
                _write_records(writer, path, file, job.chip.files[path], key)
        if application.name == ENVIRONMENT and job.pin:
            _set_pin(writer, job)


def replace_transport_key(writer: ScriptWriter, job: CardJob) -> None:
    """Replace the maker's key, which ends personalization, and prove it dead."""
    writer.select_root()
    block = _key_block(writer, TRANSPORT_USAGE, job.new_transport_key)
    writer.write_key(TRANSPORT_ID, block, job.transport_key, "替换传输密钥", Phase.FINISH)
    _prove_replaced(writer, job)


def prove_transport_key(writer: ScriptWriter, job: CardJob) -> None:
    """Prove on a finished card that our transport key lives and the maker's is dead."""
    writer.select_root()
    _prove_replaced(writer, job)


def _prove_replaced(writer: ScriptWriter, job: CardJob) -> None:
    unchanged = ("default_key_alive", "传输密钥没有替换")
    writer.prove(TRANSPORT_ID, job.new_transport_key, os.urandom(8), "新传输密钥有效", refusal=unchanged)
    alive = ("default_key_alive", "旧传输密钥仍然有效")
    old = job.transport_key
    writer.prove(TRANSPORT_ID, old, os.urandom(8), "旧传输密钥已失效", expect=TRIES_LEFT, refusal=alive)


def _key_block(writer: ScriptWriter, usage: int, key: bytes) -> bytes:
    return bytes((usage, writer.cipher.code, KEY_VERSION, KEY_TRIES)) + key


def _has_content(job: CardJob, application: Application, file: ElementaryFile) -> bool:
    return bool(job.photo) if file.source else f"{application.name}/{file.file_id}" in job.chip.files


def _write_records(writer: ScriptWriter, path: str, file: ElementaryFile, content: bytes, key: bytes) -> None:
    for tag, value in decode_records(content):
        head = bytes((0x84, 0xDC, tag, short_id(file.file_id) << 3))
        record = bytes((tag, len(value))) + value
        writer.secured(head, record, key, f"写 {path} {tag:02X}", Phase.WRITE)


def _write_photo(writer: ScriptWriter, path: str, file: ElementaryFile, photo: bytes, key: bytes) -> None:
    writer.select_file(file.file_id, f"选择{file.title}")
    for at in range(0, len(photo), SEALED_BYTES):
        head = b"\x84\xd6" + at.to_bytes(2)
        writer.secured(head, photo[at : at + SEALED_BYTES], key, f"写 {path} 偏移 {at}", Phase.WRITE)


def _set_pin(writer: ScriptWriter, job: CardJob) -> None:
    _, puk = job.key(ENVIRONMENT, "PUK")
    sealed = writer.cipher.sealed(puk, job.pin_bytes)
    writer.secured(b"\x84\x24\x00\x01", sealed, puk, "设置初始密码", Phase.WRITE)
