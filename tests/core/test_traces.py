"""Traces of people are found in any encoding and wrapping, and never spelled out (R-22, R-45)."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import sm3
from portal.core.trace_forms import Needle, forms
from portal.core.traces import BLOCK, Finder, Trace, scan_file, scan_stream

NUMBER, NAME, ACCOUNT = "440600199001011234", "欧阳娜娜", "6222020000000012345"
PHOTO = random.Random(7).randbytes(16_000)
NEEDLES = [Needle("号码", NUMBER), Needle("姓名", NAME), Needle("账号", ACCOUNT), Needle.photo("照片", PHOTO)]
FINDER = Finder(NEEDLES, digests=[("照片", sm3(PHOTO))])
WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda raw: raw,
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode(),
    "bytea": lambda raw: b"7\t\\\\x" + raw.hex().encode() + b"\tend",
    "base64": base64.b64encode,
    "base64 unpadded": lambda raw: base64.b64encode(raw).rstrip(b"="),
    "base64 url": base64.urlsafe_b64encode,
    "mime": base64.encodebytes,
    "zlib": zlib.compress,
    "hex of base64": lambda raw: base64.b64encode(raw).hex().encode(),
    "base64 of zlib": lambda raw: base64.b64encode(zlib.compress(raw)),
}
CODES = ("utf-8", "gb18030", "utf-16-le", "utf-16-be")


def labels(block: bytes, finder: Finder = FINDER) -> set[str]:
    return {finder.label(number) for number, _form in finder.find(block)}


class TestForms:
    @pytest.mark.parametrize("wrap", WRAPS)
    @pytest.mark.parametrize("code", CODES)
    @pytest.mark.parametrize(("label", "value"), [("号码", NUMBER), ("姓名", NAME), ("账号", ACCOUNT)])
    def test_every_encoding_in_every_wrapping(self, label: str, value: str, code: str, wrap: str) -> None:
        """R-22: whatever surrounds it."""
        around = "x" * 5 if wrap.startswith(("plain", "zlib", "mime")) else ""
        raw = f"{around}{value}{around}".encode(code)
        assert label in labels(WRAPS[wrap](raw))

    @pytest.mark.parametrize(
        "text",
        [
            json.dumps({"name": NAME}), json.dumps(NAME).upper().replace("\\U", "\\u"), quote(NAME),
            quote(NAME, encoding="gb18030"), quote(NAME).lower(), repr(NAME.encode()),
        ],
    )  # fmt: skip
    def test_escapes_of_names(self, text: str) -> None:
        assert labels(text.encode()) == {"姓名"}

    def test_an_account_in_groups(self) -> None:
        assert labels(b"6222 0200 0000 0012 345") == {"账号"}

    @pytest.mark.parametrize("wrap", WRAPS)
    def test_a_photo_by_a_stretch_of_it(self, wrap: str) -> None:
        assert "照片" in labels(WRAPS[wrap](PHOTO[7000:9000]))

    @pytest.mark.parametrize("wrap", WRAPS)
    def test_the_digest_of_a_photo(self, wrap: str) -> None:
        """R-22: a digest would tell that somebody's photo was here."""
        assert "照片（摘要）" in labels(WRAPS[wrap](sm3(PHOTO)))

    def test_a_short_name_counts_in_text_only(self) -> None:
        """Four bytes occur in any large binary by chance."""
        finder = Finder([Needle("姓名", "张三")])
        assert labels("户主：张三，佛山".encode("gb18030"), finder) == {"姓名"}
        assert labels("张三".encode(), finder) == {"姓名"}
        assert labels(b"\0\1\2" + "张三".encode("gb18030"), finder) == set()

    def test_patterns_are_distinct(self) -> None:
        patterns = [form.pattern for form in forms(0, Needle("姓名", NAME))]
        assert len(patterns) == len(set(patterns)) > 8

    def test_nothing_spells_a_value_out(self) -> None:
        """R-45: needles, forms and traces end up in logs."""
        told = repr([NEEDLES, list(forms(0, NEEDLES[0])), *FINDER.find(NUMBER.encode())])
        assert NUMBER not in told
        assert NAME not in told

    @given(st.binary(max_size=3000))
    @settings(max_examples=150, deadline=None)
    def test_random_bytes_hold_nobody(self, block: bytes) -> None:
        assert labels(block) == set()

    @given(st.binary(max_size=300), st.sampled_from(sorted(WRAPS)), st.binary(max_size=300))
    @settings(max_examples=150, deadline=None)
    def test_whatever_stands_around(self, before: bytes, wrap: str, after: bytes) -> None:
        """R-22: a value between any bytes; a wrapped one between line ends."""
        wrapped = WRAPS[wrap](NUMBER.encode())
        block = before + wrapped + after if wrap == "plain" else b"\n" + wrapped + b"\n"
        assert "号码" in labels(block)


class TestStreams:
    @pytest.mark.parametrize("at", [0, BLOCK - 9, BLOCK, BLOCK + 1, 2 * BLOCK - 5])
    @pytest.mark.parametrize("wrap", ["plain", "hex", "base64"])
    def test_across_blocks(self, at: int, wrap: str) -> None:
        """R-22: a value that two reads share."""
        content = b"." * at + WRAPS[wrap](f"xxxxxx{NUMBER}xxxxxx".encode()) + b"." * 100
        found = list(scan_stream(io.BytesIO(content), "s", FINDER))
        assert {(trace.where, trace.label) for trace in found} == {("s", "号码")}

    def test_a_dumps_table_is_named(self) -> None:
        dump = (
            "COPY public.orders_order (id) FROM stdin;\n1\n\\.\n\n"
            + "-" * (BLOCK * 2)
            + f"\nCOPY public.orders_x (id, n) FROM stdin;\n1\t{NUMBER}\n\\.\n"
        )
        (trace,) = scan_stream(io.BytesIO(dump.encode()), "d.sql", FINDER)
        assert (trace.where.endswith("public.orders_x"), trace.label) == (True, "号码")

    def test_many_needles_at_once(self) -> None:
        draw = random.Random(1)
        numbers = [f"4406{draw.randrange(10**14):014d}" for _ in range(3000)]
        finder = Finder([Needle(str(place), number) for place, number in enumerate(numbers)])
        assert labels(" ".join(numbers[::500]).encode(), finder) == {
            "0",
            "500",
            "1000",
            "1500",
            "2000",
            "2500",
        }


class TestFiles:
    @pytest.fixture
    def scan(self, tmp_path: Path) -> Callable[..., list[Trace]]:
        def run(name: str, content: bytes, **options: object) -> list[Trace]:
            path = tmp_path / name
            path.write_bytes(content)
            return list(scan_file(path, FINDER, **options))  # type: ignore[arg-type]

        return run

    def test_its_name(self, scan: Callable[..., list[Trace]]) -> None:
        (trace,) = scan(f"{NUMBER}.jpg", b"x")
        assert trace.label == "号码"
        assert NUMBER not in str(trace)

    def test_a_whole_photo(self, scan: Callable[..., list[Trace]]) -> None:
        assert {(trace.label, trace.form) for trace in scan("a.bin", PHOTO)} == {
            ("照片", "整个文件"), ("照片", ""),
        }  # fmt: skip

    @pytest.mark.parametrize("code", ["utf-16", "utf-8-sig", "gb18030"])
    def test_text_files(self, scan: Callable[..., list[Trace]], code: str) -> None:
        assert {trace.label for trace in scan("a.txt", f"甲\t{NAME}\n".encode(code))} == {"姓名"}

    def test_gzip_and_zip_and_workbooks(self, scan: Callable[..., list[Trace]]) -> None:
        """R-22: rotated logs, and Excel lists, which are ZIP files of deflated XML."""
        line = f"{'x' * 100}\n{NAME} {NUMBER}\n".encode()
        assert {trace.label for trace in scan("a.log.gz", gzip.compress(line))} == {"姓名", "号码"}
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/sharedStrings.xml", line)
            archive.writestr(f"photos/{ACCOUNT}.jpg", b"x")
        found = scan("a.xlsx", target.getvalue())
        assert {trace.label for trace in found} == {"姓名", "号码", "账号"}
        assert ACCOUNT not in "".join(map(str, found))

    @pytest.mark.parametrize("head", [b"PK\3\4", b"\x1f\x8b", b"PGDMP", b"\xff\xfe", b"\x78\x9c"])
    def test_broken_containers_are_searched_as_they_are(
        self, scan: Callable[..., list[Trace]], head: bytes
    ) -> None:
        found = scan("broken", head + os.urandom(50) + f" {NUMBER} ".encode() + os.urandom(50))
        assert {trace.label for trace in found} == {"号码"}

    def test_a_dump_is_opened_by_the_given_program(self, scan: Callable[..., list[Trace]]) -> None:
        def opened(path: Path) -> io.BytesIO:
            assert path.name == "a.dump"
            return io.BytesIO(f"COPY t (a) FROM stdin;\n{NAME}\n".encode())

        (trace,) = scan("a.dump", b"PGDMP....", open_dump=opened)
        assert trace.label == "姓名"
