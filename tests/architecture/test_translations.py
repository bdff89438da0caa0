"""The interface is Chinese, and complete in English: no text is missing, stale, or shown untranslated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db import models
from django.test import RequestFactory
from django.urls import reverse
from django.utils import translation

from portal import catalogue
from portal.choices import Role
from portal.core.audit_anchors import AnchorFault
from portal.core.audit_findings import ChainFault, Reason
from portal.core.errors import InputRefusedError, TransitionRefusedError
from portal.texts import coded, described, in_chinese, listed, told
from tests.architecture.programme_run import Finished
from tests.architecture.sources import PACKAGES

CHINESE = re.compile("[\u3400-\u9fff]+")
ADMINS = {
    model._meta.label_lower: site
    for model, site in sorted(admin.site._registry.items(), key=str)
    if model._meta.app_label in PACKAGES
}
ROLES = [role.value for role in Role if role != Role.CARD_SYSTEM]
# Columns that keep texts of ours: shown in the reader's language, so they are no data to be passed over.
OURS = {
    ("quality.defectcode", "name"),
    ("quality.hold", "reason"),
    ("production.batch", "held_reason"),
    ("production.stocklocation", "name"),
    ("orders.package", "refusal_text"),
    ("orders.accountfile", "refusal_text"),
    ("orders.accountpackage", "refusal_text"),
    ("portal.task", "error_text"),
    ("stations.feederrun", "reason_text"),
    ("stations.issuance", "print_text"),
    ("stations.issuance", "reason_text"),
    ("stations.issuancestep", "text"),
    ("stations.selftest", "error_text"),
}
# How columns end that hold sentences.
SENTENCES = re.compile("text|.*_text|held_reason")
MASKED = re.compile(r"[\u3400-\u9fff·]*\*+[\u3400-\u9fff·]*")
UNSHOWN = re.compile(r"<script.*?</script>|<style.*?</style>", re.DOTALL)
LANGUAGE_MENU = "简体中文"
AMOUNT_IN_WORDS = re.compile("[零壹贰叁肆伍陆柒捌玖拾佰仟万亿元角分整负]+")


def test_the_english_catalogue_holds_every_text_and_nothing_else() -> None:
    """No text missing, obsolete, fuzzy, empty or still Chinese; the same places in text and translation."""
    assert catalogue.findings() == []


def test_columns_named_as_texts_are_listed_here_or_written_by_people() -> None:
    """A new column for a sentence of ours must be looked at in English too."""
    named = {
        (model._meta.label_lower, field.name)
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if model._meta.app_label in PACKAGES and SENTENCES.fullmatch(field.name)
    }
    assert named - OURS == {("stations.emergencycase", "decision_text")}


@pytest.mark.parametrize(("label", "column"), sorted(OURS))
def test_no_page_shows_a_kept_text_as_it_is(label: str, column: str) -> None:
    """It goes through `told()`, whether a row of the programme happens to hold one or not."""
    site = ADMINS.get(label)
    if site is not None:
        shown = [*site.list_display, *(site.fields or flatten_fieldsets(site.fieldsets or ()))]
        assert column not in shown


FAULTS = [
    *(ChainFault(3, reason) for reason in Reason),
    *(ChainFault(3, reason, 9) for reason in Reason),
    ChainFault(3, Reason.MOVED, origin=8),
    ChainFault(3, Reason.MOVED, 9, origin=8),
    ChainFault(3, Reason.CHANGED, column="digest"),
    ChainFault(3, Reason.CHANGED, column="previous_digest"),
    *(AnchorFault(3, reason) for reason in ("signature", "key", "missing", "link")),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.text)
def test_what_is_wrong_with_the_audit_is_said_in_english(fault: ChainFault | AnchorFault) -> None:
    with translation.override("en"):
        assert CHINESE.findall(told(fault.text)) == []
        assert "3" in told(fault.text)


def test_update_keeps_every_translation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {(m.context, m.id): m.string for m in catalogue.committed() if m.id}
    copy = tmp_path / "django.po"
    copy.write_bytes(catalogue.ENGLISH.read_bytes())
    monkeypatch.setattr(catalogue, "ENGLISH", copy)
    catalogue.update()
    assert {(m.context, m.id): m.string for m in catalogue.committed() if m.id} == known
    assert catalogue.findings() == []


def test_a_new_text_is_missing_until_it_is_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "django.po"
    whole = catalogue.ENGLISH.read_text(encoding="utf-8")
    copy.write_text(whole.replace('msgid "草稿"\nmsgstr "Draft"\n', ""), encoding="utf-8")
    monkeypatch.setattr(catalogue, "ENGLISH", copy)
    assert catalogue.findings() == ["missing: |草稿"]
    catalogue.update()
    assert catalogue.findings() == ["not translated: 草稿"]


def test_a_header_marked_fuzzy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pybabel would pass over the whole catalogue without a word."""
    copy = tmp_path / "django.po"
    text = catalogue.ENGLISH.read_text(encoding="utf-8")
    copy.write_text(text.replace('msgid ""\n', '#, fuzzy\nmsgid ""\n', 1), encoding="utf-8")
    monkeypatch.setattr(catalogue, "ENGLISH", copy)
    assert catalogue.findings() == ["fuzzy: the header"]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile what is committed, as script/bootstrap does."""
    catalogue.compile_all()


class TestTold:
    def test_chinese_readers_get_the_text_as_it_is(self) -> None:
        refusal = InputRefusedError("数据包过大", expected="不超过 10 字节", got="11 字节")
        assert told(refusal) == "数据包过大；应为：不超过 10 字节；实为：11 字节"
        assert described(refusal) == "数据包过大；应为：不超过 10 字节；实为：11 字节（input_refused）"
        assert listed(["良品", "废品"]) == "良品、废品"

    def test_english_readers_get_every_part_in_english(self) -> None:
        refusal = InputRefusedError("数据包过大", where="第 3 行", expected="不超过 10 字节", got="11 字节")
        with translation.override("en"):
            assert told(refusal) == (
                "The package is too large; where: row 3; expected: at most 10 bytes; got: 11 bytes"
            )
            assert coded("数据包过大", "too_large") == "The package is too large (too_large)"
            assert listed(["a", "b"]) == "a, b"

    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("不超过 40960 字节", "at most 40960 bytes"),
            ("银行ICBC的网点代码", "a delivery point code of bank ICBC"),
            ("车间数量不足", "Too few cards: Shop floor"),
            ("良品、废品", "Good, Rejected"),
            ("不晚于2026年12月31日", "not after 2026-12-31"),
            (
                "表格超出允许的范围；远处若有误填的单元格，请删除",
                "The table exceeds what is allowed; delete cells filled far away by mistake",
            ),
            ("批次 B-1 当前状态不能检验", "Batch B-1 cannot be inspected in its present state"),
            ("无人写过的话", "无人写过的话"),
            ("", ""),
        ],
    )
    def test_phrases_are_recognised_with_their_values(self, said: str, meant: str) -> None:
        with translation.override("en"):
            assert told(said) == meant

    def test_what_is_kept_is_chinese_whoever_caused_it(self) -> None:
        with translation.override("en"):
            assert translation.gettext("订单") == "Order"
            with in_chinese():
                assert translation.gettext("订单") == "订单"
                assert told(TransitionRefusedError("没有这一列")) == "没有这一列"


@pytest.fixture(autouse=True)
def own_folders() -> None:
    """Leave the folders where the programme was run."""


def data() -> list[str]:
    """List the Chinese that people and other systems wrote, longest first."""
    found: set[str] = set()
    for model in apps.get_models():
        if model._meta.app_label not in PACKAGES:
            continue
        for field in model._meta.concrete_fields:
            if isinstance(field, models.CharField | models.TextField | models.JSONField) and (
                (model._meta.label_lower, field.name) not in OURS and not field.choices
            ):
                # Rows as they are: the audit's details are json, which has no equality.
                values = model._base_manager.order_by().values_list(field.name, flat=True)
                found.update(text for value in values for text in texts(value) if CHINESE.search(text))
    return sorted(found, key=len, reverse=True)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values()) if "facts" not in value else [value.get("signed_by")]
    if isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def chinese_in(page: str, written: list[str]) -> list[str]:
    """Return the Chinese of a page that is nobody's data."""
    shown = unescape(UNSHOWN.sub("", page)).replace(LANGUAGE_MENU, "")
    for text in written:
        shown = shown.replace(text, "")
    return CHINESE.findall(AMOUNT_IN_WORDS.sub("", MASKED.sub("", shown)))


def pages(site: Any, request: Any) -> Iterator[str]:
    """Yield the addresses of a list, of its form to add, and of a row of each state."""
    options = site.model._meta
    prefix = f"admin:{options.app_label}_{options.model_name}"
    yield reverse(f"{prefix}_changelist")
    if site.has_add_permission(request):
        yield reverse(f"{prefix}_add")
    rows = site.get_queryset(request).order_by("-pk")
    chosen = [rows.first()]
    if any(field.name == "status" for field in options.fields):
        states = set(rows.order_by().values_list("status", flat=True))
        chosen = [rows.filter(status=state).first() for state in states]
    yield from (reverse(f"{prefix}_change", args=[row.pk]) for row in chosen if row is not None)


@pytest.mark.django_db
@pytest.mark.timeout(900)
def test_every_page_is_english_for_english_readers(finished: Finished) -> None:
    """Start page, lists, forms and rows of every role, on the programme's own rows."""
    with translation.override("en"):  # a request leaves its language behind
        wrong = list(untranslated(finished))
    assert wrong == []


def untranslated(finished: Finished) -> Iterator[tuple[str, str, list[str]]]:
    """Look at every page with the first role that may see it; yield role, page and the Chinese on it."""
    written, seen = data(), set[str]()
    for role in ROLES:
        client, request = finished.client(role), RequestFactory().get("/")
        request.user = finished.users[role]
        addresses = [reverse("admin:index")]
        for site in ADMINS.values():
            if site.has_view_or_change_permission(request):
                addresses += [page for page in pages(site, request) if page not in seen]
        for page in addresses:
            answer = client.get(page, headers={"accept-language": "en"})
            assert answer.status_code == HTTPStatus.OK, page
            initial = finished.users[role].get_full_name()[:1]  # stands in the account's picture
            left = [text for text in chinese_in(answer.content.decode(), written) if text != initial]
            if left:
                yield role, page, left[:5]
        seen.update(addresses[1:])
    assert len(seen) > 2 * len(ADMINS)
