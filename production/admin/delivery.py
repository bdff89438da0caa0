"""Deliveries: what banks download, count and sign; their cartons and receipts (R-23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.admin import display
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import (
    ProgressAdmin,
    ScopedAdmin,
    badge,
    exact_filter,
    grouped,
    organisation_filter,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.adminkit.downloads import streamed
from portal.choices import OrganisationKind, TaskStatus
from production.admin.batch_sections import DELIVERY_COLOURS
from production.admin.carton_form import CartonsForm, short_number
from production.admin.references import reference, reference_column
from production.choices import DeliveryStatus
from production.models import Carton, Delivery, Receipt
from production.services.delivery import download_list, sign_delivery
from production.services.receiving import confirm_cartons

RECEIPTS: Mapping[str, Colour] = {"confirmed": "success", "different": "danger"}
CARTONS_SHOWN = 200


def _dispatched(row: Delivery) -> bool:
    return row.status == DeliveryStatus.DISPATCHED


def _uncounted(row: Delivery) -> bool:
    return _dispatched(row) and row.cartons.filter(receipt__isnull=True).exists()


def _counted(row: Delivery) -> bool:
    return _dispatched(row) and not row.cartons.filter(receipt__isnull=True).exists()


def _bank(path: str) -> Callable[[Any, Any], str]:
    def column(admin: Any, row: Any) -> str:
        for name in path.split("__"):
            row = getattr(row, name)
        return str(row)

    column.short_description = _("银行")  # type: ignore[attr-defined]
    return column


def _positions(receipt: Receipt) -> str:
    return "、".join(map(str, receipt.missing_positions)) or "-"


@register(Delivery)
class DeliveryAdmin(ProgressAdmin[Delivery]):
    """What goes to one delivery point."""

    list_display = (
        "number",
        "bank",
        "delivery_point",
        "card_count",
        "confirmed",
        "state",
        "dispatched_at",
        "signed_at",
    )
    list_select_related = ("batch__order__bank", "delivery_point", "signed_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter("batch__order__bank", OrganisationKind.BANK, _("银行"), parameter="bank"),
        exact_filter("number", _("交付单号")),
        exact_filter("batch", _("批次号"), "batch__number"),
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("number", "state"),
                    ("batch_text", "card_count"),
                    ("bank", "delivery_point"),
                    "address",
                )
            },
        ),
        (_("点收"), {"fields": ("carton_table",)}),
        (_("经过"), {"fields": (("dispatched_at", "signed_at"), "signed_by", "digest_text")}),
    )
    actions_detail = ("download", "confirm", "sign")
    state = status_column(DELIVERY_COLOURS)
    bank = _bank("batch__order__bank")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Count the cartons of each delivery and those with the bank's word."""
        rows = super().get_queryset(request)
        return rows.annotate(carton_count=Count("cartons"), confirmed_count=Count("cartons__receipt"))

    def task_counts(self, row: Delivery) -> dict[str, int]:
        """Show the writing of the list while it runs or has failed, nothing once it stands."""
        counts = super().task_counts(row)
        return {} if set(counts) <= {TaskStatus.DONE} else counts

    @display(description=_("批次"))
    def batch_text(self, row: Delivery) -> str:
        """Name the batch; banks have no page of it."""
        return row.batch.number

    @display(description=_("地址"))
    def address(self, row: Delivery) -> str:
        """Show where it goes."""
        return row.delivery_point.address

    @display(description=_("已点收箱数"))
    def confirmed(self, row: Any) -> str:
        """Show how many cartons have the bank's word."""
        return f"{row.confirmed_count} / {row.carton_count}"

    @display(description=_("清单 SM3 摘要"))
    def digest_text(self, row: Delivery) -> str:
        """Show the list's digest in hex."""
        return bytes(row.list_digest).hex() if row.list_digest else "-"

    @display(description=_("箱"))
    def carton_table(self, row: Delivery) -> SafeString:
        """Show the cartons with what the bank found in them."""
        rows = [
            _carton_row(carton) for carton in row.cartons.select_related("receipt__signed_by")[:CARTONS_SHOWN]
        ]
        headers = [
            _t("箱号"),
            _t("清单张数"),
            _t("实点张数"),
            _t("结果"),
            _t("缺少或损坏的位置"),
            _t("说明"),
            _t("点收人"),
        ]
        return table(headers, rows)

    @verb(
        label=_("下载交接清单"),
        permission="production.download_list",
        when=lambda row: bool(row.list_name),
        icon="download",
        download=True,
    )
    def download(self, request: HttpRequest, row: Delivery, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Send the list as Excel, decrypted on the way."""
        name, blocks = download_list(row, actor=signed_in(request))
        return streamed(blocks, name)

    @verb(
        label=_("点收"),
        permission="production.sign_delivery",
        form=CartonsForm,
        when=_uncounted,
        icon="inventory",
        variant=ActionVariant.PRIMARY,
        help_text=_("逐箱填写实点张数；有缺少或损坏时写明箱内位置（如 3, 7-9）和说明。留空的箱暂不点收。"),
    )
    def confirm(self, request: HttpRequest, row: Delivery, cleaned: dict[str, Any]) -> str:
        """Take the bank's word on the cartons."""
        receipts = confirm_cartons(row, cleaned["counts"], actor=signed_in(request))
        return _t("已点收 %(count)s 箱") % {"count": len(receipts)}

    @verb(
        label=pgettext_lazy("verb", "签收"),
        permission="production.sign_delivery",
        when=_counted,
        icon="draw",
        variant=ActionVariant.PRIMARY,
        help_text=_("签收后卡片即为接收，两年质保期自今日起算；缺少或损坏的卡片不在接收之列。"),
    )
    def sign(self, request: HttpRequest, row: Delivery, cleaned: dict[str, Any]) -> str:
        """Sign for the delivery."""
        delivery = sign_delivery(row, actor=signed_in(request))
        return _t("交付单 %(number)s 已签收") % {"number": delivery.number}


def _carton_row(carton: Carton) -> tuple[Any, ...]:
    receipt: Receipt | None = getattr(carton, "receipt", None)
    if receipt is None:
        return (
            reference(carton, short_number(carton)),
            grouped(carton.card_count),
            "-",
            badge(_t("待点收"), "warning"),
            "-",
            "-",
            "-",
        )
    return (
        reference(carton, short_number(carton)),
        grouped(carton.card_count),
        grouped(receipt.counted),
        badge(receipt.get_result_display(), RECEIPTS[receipt.result]),
        _positions(receipt),
        receipt.note or "-",
        receipt.signed_by,
    )


@register(Carton)
class CartonAdmin(ScopedAdmin[Carton]):
    """Numbered cartons."""

    list_display = ("number", "delivery_link", "bank", "card_count", "result")
    list_select_related = ("delivery__batch__order__bank", "receipt")
    list_filter = (
        exact_filter("number", _("箱号")),
        exact_filter("delivery", _("交付单号"), "delivery__number"),
        organisation_filter(
            "delivery__batch__order__bank", OrganisationKind.BANK, _("银行"), parameter="bank"
        ),
    )
    fields = ("number", "delivery_link", "bank", "card_count", "result", "receipt_link")
    delivery_link = reference_column("delivery", _("交付单"))
    bank = _bank("delivery__batch__order__bank")

    @display(description=_("点收结果"))
    def result(self, row: Carton) -> SafeString:
        """Show what the bank found."""
        receipt: Receipt | None = getattr(row, "receipt", None)
        if receipt is None:
            return badge(_t("待点收"), "warning")
        return badge(receipt.get_result_display(), RECEIPTS[receipt.result])

    @display(description=_("签收"))
    def receipt_link(self, row: Carton) -> Any:
        """Link the receipt."""
        return reference(getattr(row, "receipt", None), _t("查看签收"))


@register(Receipt)
class ReceiptAdmin(ScopedAdmin[Receipt]):
    """What banks found in cartons."""

    list_display = ("title", "delivery_link", "bank", "listed", "counted", "state", "signed_by", "signed_at")
    list_display_links = ("title",)
    list_select_related = ("carton__delivery__batch__order__bank", "signed_by")
    list_filter = (
        ("result", ChoicesDropdownFilter),
        organisation_filter(
            "carton__delivery__batch__order__bank", OrganisationKind.BANK, _("银行"), parameter="bank"
        ),
        exact_filter("delivery", _("交付单号"), "carton__delivery__number"),
    )
    fields = (
        "carton_link", "delivery_link", "bank", "listed", "counted", "state", "missing", "note",
        "signed_by", "signed_at",
    )  # fmt: skip
    state = status_column(RECEIPTS, field="result", description=_("结果"))
    carton_link = reference_column("carton", _("箱"))
    delivery_link = reference_column("carton__delivery", _("交付单"))
    bank = _bank("carton__delivery__batch__order__bank")

    @display(description=_("箱号"))
    def title(self, row: Receipt) -> str:
        """Name the receipt by its carton."""
        return row.carton.number

    @display(description=_("清单张数"))
    def listed(self, row: Receipt) -> str:
        """Show how many cards the list names."""
        return grouped(row.carton.card_count)

    @display(description=_("缺少或损坏的箱内位置"))
    def missing(self, row: Receipt) -> str:
        """Show the positions without a sound card."""
        return _positions(row)
