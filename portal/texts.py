"""Say the kernel's and the services' Chinese texts in the language of whoever reads them.

Services and the core raise Chinese messages and know nothing of languages; admin and API call `told()` at
the edge. A text that was an f-string, or was stored with its values, is recognised by its phrase in the
catalogue: 不超过 40960 字节 is the phrase 不超过 {0} 字节. Chinese readers get every text as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from babel.messages.mofile import read_mo
from django.conf import settings
from django.utils.translation import get_language, gettext, override, to_locale

from portal.core.errors import PortalError
from portal.core.sheets_write import Column

PLACE = re.compile(r"\\\{\d+\\\}")
# Values are shown, not read: a longer text is no phrase of ours.
LONGEST = 1000


def told(text: Any) -> str:
    """Return a Chinese text of ours in the reader's language, unchanged where the catalogue knows none."""
    said = str(text)
    if not said or _is_chinese() or len(said) > LONGEST:
        return said
    return _refusal(said, get_language() or "")


def described(exc: PortalError) -> str:
    """Return a refusal for people: message, where, expected and got, and its code."""
    return coded(exc, exc.code)


def coded(text: Any, code: str) -> str:
    """Return a refusal's text in the reader's language with its code, for those who ask the operators."""
    return gettext("%(refusal)s（%(code)s）") % {"refusal": told(text), "code": code}


def listed(names: Iterable[Any]) -> str:
    """Return names one after the other as the reader's language sets them apart."""
    return ("、" if _is_chinese() else ", ").join(map(str, names))


def told_columns(columns: Iterable[Column]) -> list[Column]:
    """Return the columns of a list for people with their labels in the reader's language."""
    return [replace(column, label=told(column.label)) for column in columns]


def in_chinese() -> override:
    """Return a context in which labels are Chinese: for what is kept, and for documents."""
    return override(settings.LANGUAGE_CODE)


def _is_chinese() -> bool:
    return (get_language() or settings.LANGUAGE_CODE).startswith("zh")


def _refusal(text: str, language: str) -> str:
    """Translate the parts of a refusal, which stand between semicolons; a message may hold one itself."""
    parts = text.split("；")
    told_parts = []
    while parts:
        taken = next((n for n in range(len(parts), 1, -1) if _known("；".join(parts[:n]))), 1)
        told_parts.append(_part("；".join(parts[:taken]), language))
        parts = parts[taken:]
    return "; ".join(told_parts)


def _part(text: str, language: str) -> str:
    if found := _known(text):
        return found
    for pattern, phrase in _phrases(language):
        if match := pattern.fullmatch(text):
            return gettext(phrase).format(*(_part(value, language) for value in match.groups()))
    names = text.split("、")
    return ", ".join(_part(name, language) for name in names) if len(names) > 1 else text


def _known(text: str) -> str:
    """Return the translation of a whole text, nothing where there is none."""
    found = gettext(text) if text else ""
    return "" if found == text else found


@cache
def _phrases(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """List the catalogue's texts with numbered places, those with most words of their own first."""
    file = Path(settings.BASE_DIR, "locale", to_locale(language), "LC_MESSAGES", "django.mo")
    if not file.exists():
        return ()
    with file.open("rb") as source:
        ids = [str(message.id) for message in read_mo(source)]
    phrases = sorted((text for text in ids if "{0}" in text), key=lambda text: (-_own_length(text), text))
    return tuple((re.compile(PLACE.sub("(.*?)", re.escape(text)), re.DOTALL), text) for text in phrases)


def _own_length(phrase: str) -> int:
    return len(re.sub(r"\{\d+\}", "", phrase))
