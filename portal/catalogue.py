"""Collect the texts of the interface and keep the English catalogue equal to them.

Every Chinese string of our code is a text for people, whether it is wrapped in gettext or is the constant of
a refusal, a finding or a table of labels; modules that read Chinese input or write Chinese documents are
listed below. An f-string is a phrase with numbered places: f"不超过 {limit} 字节" is 不超过 {0} 字节.
How to translate stands in docs/developers/translations.md.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("portal", "orders", "production", "quality", "billing", "stations")
ENGLISH: Final = ROOT / "locale" / "en" / "LC_MESSAGES" / "django.po"
CHINESE: Final = re.compile("[\u3400-\u9fff（]")  # characters, or the brackets written with them
HEADER: Final = "# English for the card portal; the texts themselves are Chinese."

# Never shown by the portal: what commands and programs print, samples, date formats, the virtual card.
UNSEEN: Final = frozenset(
    "portal/formats portal/samples portal/embedded.py portal/keeper.py portal/supervisor.py stations/virtual"
    " stations/agent/options.py"
    " stations/agent/__main__.py portal/catalogue.py portal/role_table.py".split()
)
# Only their refusals are shown: the rest is Chinese input that they read or documents that they write.
REFUSALS_ONLY: Final = frozenset(
    "portal/core/money.py portal/core/periods.py portal/core/sheets_write.py"
    " production/delivery_list.py production/jobs_delivery.py production/services/returns.py"
    " production/personalization production/services/waste.py billing/services/statements.py"
    " billing/api/views.py".split()
)
# Words looked for in Chinese input, and names of peoples, which are personal data.
WORD_TABLES: Final = frozenset({"_TYPE_WORDS", "_HAN", "_DIGITS", "_PEOPLES", "ETHNICITIES"})
GETTEXT: Final = {
    "gettext": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}


def collected() -> Catalog:
    """Return the catalogue of all texts of the interface, without translations."""
    # Not fuzzy: pybabel, and so script/bootstrap, passes over a catalogue whose header is.
    catalogue = Catalog(
        locale="en", domain="django", project="card portal", header_comment=HEADER, fuzzy=False
    )
    for path in sorted(path for suffix in ("*.py", "*.html") for path in _sources(suffix)):
        place = path.relative_to(ROOT).as_posix()
        source = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            found = _template_texts(source)
        else:
            found = _python_texts(ast.parse(source), wanted=not _within(place, REFUSALS_ONLY))
        for line, text, context in found:
            catalogue.add(text, locations=[(place, line)], context=context)
    return catalogue


def committed() -> Catalog:
    """Return the committed English catalogue."""
    if not ENGLISH.exists():
        return Catalog(locale="en", domain="django", fuzzy=False)
    with ENGLISH.open("rb") as file:
        return read_po(file, locale="en", domain="django")


def updated() -> Catalog:
    """Return what the code holds today with the translations committed; a new text has none."""
    known, fresh = committed(), collected()
    for message in fresh:
        earlier = known.get(message.id, message.context) if message.id else None
        if earlier is not None and earlier.id == message.id:
            message.string = earlier.string
    return fresh


def findings() -> list[str]:
    """Name every text that is missing, gone, not translated, or translated with other places."""
    known, fresh = committed(), collected()
    wanted, present = _keys(fresh), _keys(known)
    missing = [f"missing: {text}" for text in sorted(wanted.keys() - present.keys())]
    gone = [f"gone: {text}" for text in sorted(present.keys() - wanted.keys())]
    header = ["fuzzy: the header"] if known.fuzzy else []
    return [*header, *missing, *gone, *(f"{fault}: {m.id}" for m in present.values() if (fault := _fault(m)))]


def compile_all() -> None:
    """Write the binary catalogue beside every catalogue of the project."""
    for path in sorted(ROOT.glob("locale/*/LC_MESSAGES/*.po")):
        with path.open("rb") as source:
            catalogue = read_po(source, domain=path.stem)
        with path.with_suffix(".mo").open("wb") as target:
            write_mo(target, catalogue)


def update() -> None:
    """Bring the committed catalogue to what the code holds today."""
    fresh = updated()  # read before the file is opened for writing
    ENGLISH.parent.mkdir(parents=True, exist_ok=True)
    with ENGLISH.open("wb") as file:
        write_po(file, fresh, width=110, include_lineno=False, ignore_obsolete=True)


def places(text: str) -> list[str]:
    """Return the places of a text that values are put into, sorted."""
    return sorted(re.findall(r"%\(\w+\)[a-z]|\{\d+\}", text))


def _fault(message: Message) -> str:
    ids, strings = _strings(message.id), _strings(message.string)
    if not strings or not all(strings):
        return "not translated"
    if message.fuzzy:
        return "fuzzy"
    if any(CHINESE.search(string) for string in strings):
        return "still Chinese"
    if any(places(string) != places(ids[0]) for string in strings):
        return "places differ"
    return ""


def _keys(catalogue: Catalog) -> Mapping[str, Message]:
    return {f"{m.context or ''}|{m.id}": m for m in catalogue if m.id}


def _sources(pattern: str) -> Iterator[Path]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob(pattern):
            place = path.relative_to(ROOT).as_posix()
            if not {"migrations", "management"} & set(path.parts) and not _within(place, UNSEEN):
                yield path


def _within(place: str, entries: Iterable[str]) -> bool:
    return any(place == entry or place.startswith(f"{entry}/") for entry in entries)


Text = tuple[int, str | tuple[str, str], str | None]  # line, text or singular and plural, context


def _python_texts(node: ast.AST, *, wanted: bool) -> Iterator[Text]:
    """Yield every Chinese string that is shown: all but docstrings, or only what refusals hold."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        if wanted and CHINESE.search(phrase(node)):
            yield node.lineno, phrase(node), None
        children: Iterable[ast.AST] = (
            part for part in ast.walk(node) if isinstance(part, ast.FormattedValue)
        )
    elif isinstance(node, ast.Call) and _name(node.func).removesuffix("_lazy") in {"ngettext", "pgettext"}:
        yield _marked(node)
        return
    else:
        children = () if _is_word_table(node) else ast.iter_child_nodes(node)
    wanted = wanted or (isinstance(node, ast.Call) and _name(node.func).endswith("Error"))
    for child in children:
        if not _is_docstring(child):
            yield from _python_texts(child, wanted=wanted)


def _marked(call: ast.Call) -> Text:
    """Return the text of a call that says more than the text: its plural or its context."""
    first, second = (ast.literal_eval(argument) for argument in call.args[:2])
    if _name(call.func).startswith("n"):
        return call.lineno, (first, second), None
    return call.lineno, second, first


def phrase(node: ast.Constant | ast.JoinedStr) -> str:
    """Return a string's text, an f-string's with numbered places for its values."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts: list[str] = []
    count = 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        else:
            parts.append(f"{{{count}}}")
            count += 1
    return "".join(parts)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_word_table(node: ast.AST) -> bool:
    """Tell patterns and word lists for Chinese input from texts for people."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {"re.compile", "re.sub", "re.fullmatch"}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id in WORD_TABLES for target in targets)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _template_texts(source: str) -> Iterator[Text]:
    """Yield line, text and context of a template's translated strings, as Django itself finds them."""
    plain = "\n".join(line.strip() for line in templatize(source).split("\n"))
    for line, function, found, _ in extract_python(
        io.BytesIO(plain.encode()), dict.fromkeys(GETTEXT), [], {}
    ):
        texts = [text for text in _strings(found) if text]
        if function == "ngettext":
            yield line, (texts[0], texts[1]), None
        else:
            yield line, texts[-1], texts[0] if function == "pgettext" else None


def _strings(found: Any) -> list[str]:
    return [found] if isinstance(found, str) else list(found or ())


def main(arguments: list[str]) -> int:
    """Run one of update, check and compile."""
    verbs = {"update": update, "compile": compile_all}
    if arguments == ["check"]:
        found = findings()
        sys.stdout.write("".join(f"{line}\n" for line in found))
        return bool(found)
    if len(arguments) != 1 or arguments[0] not in verbs:
        sys.stderr.write("用法：script/messages update|check|compile\n")
        return 2
    verbs[arguments[0]]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
