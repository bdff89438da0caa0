"""Settlement periods and statements with their lines and adjustments (R-39, R-40)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.admin import display
from django.db.models import OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from billing.admin.adjustments import AdjustmentForm, adjustment_table
from billing.models import Adjustment, AdjustmentStatus, SettlementPeriod, Statement, StatementLine
from billing.selectors import AMOUNT
from billing.services.closing import close_statement, request_adjustment
from billing.services.statements import draft_statement, statement_workbook
from orders.models import Contract
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    grouped,
    organisation_filter,
    register,
    signed_in,
    status_column,
    table,
    verb,
    written,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from portal.core.clock import today
from portal.core.money import capital_yuan, format_yuan
from production.admin.references import listing, reference, reference_column

STATES: Mapping[str, Colour] = {"draft": "warning", "closed": "success"}
LINES_SHOWN = 100


class DraftForm(VerbForm):
    """Whose half-year, named by any day in it."""

    contract = forms.ModelChoiceField(Contract.objects.none(), label=_("合同"))
    on = forms.DateField(label=_("结算期内的任一日期"))

    def prepare(self) -> None:
        """Offer the contracts the user may see, and today."""
        contracts = Contract.objects.visible_to(signed_in(self.request))
        field: Any = self.fields["contract"]
        field.queryset = contracts
        self.initial.setdefault("contract", contracts.values_list("pk", flat=True).first())
        self.initial.setdefault("on", today())


@register(SettlementPeriod)
class SettlementPeriodAdmin(ScopedAdmin[SettlementPeriod]):
    """The six half-years of each contract."""

    list_display = ("title", "contract", "starts_on", "ends_on", "statement_link")
    list_display_links = ("title",)
    list_select_related = ("contract__supplier", "statement")
    list_filter = (
        organisation_filter(
            "contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
    )
    fields = ("contract", "number", "starts_on", "ends_on", "statement_link")

    @display(description=_("结算期"))
    def title(self, row: SettlementPeriod) -> str:
        """Name the period by its number."""
        return _t("第 %(number)s 期") % {"number": row.number}

    @display(description=_("结算单"))
    def statement_link(self, row: SettlementPeriod) -> Any:
        """Link the period's statement."""
        statement: Statement | None = getattr(row, "statement", None)
        return reference(statement, statement.get_status_display()) if statement else "-"


@register(Statement)
class StatementAdmin(ScopedAdmin[Statement]):
    """What a supplier is owed for a half-year."""

    list_display = ("title", "supplier", "span", "billed", "owed", "state", "drafted_at", "drafted_by")
    list_display_links = ("title",)
    list_select_related = ("period__contract__supplier", "drafted_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter(
            "period__contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "title",
                    "supplier",
                    "span",
                    "state",
                    ("drafted_at", "drafted_by"),
                    ("closed_at", "closed_by"),
                )
            },
        ),
        (
            _("明细（成品卡与预制卡分列）"),
            {"fields": ("lines", "billed", "amount", "line_list")},
        ),
        (_("结算后的调整"), {"fields": ("adjustments", "adjusted", "owed", "owed_words")}),
    )
    actions_list = ("draft",)
    actions_detail = ("download", "redraft", "close", "adjust")
    state = status_column(STATES)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Statement]:
        """Sum the lines and the approved adjustments of each statement."""
        agreed = Adjustment.objects.filter(statement=OuterRef("pk"), status=AdjustmentStatus.APPROVED)
        added = agreed.order_by().values("statement").annotate(sum=Sum("amount", output_field=AMOUNT))
        return (
            super()
            .get_queryset(request)
            .annotate(
                total=Coalesce(Sum("lines__amount"), Value(Decimal(0)), output_field=AMOUNT),
                added=Coalesce(Subquery(added.values("sum")), Value(Decimal(0)), output_field=AMOUNT),
                billed_total=Sum("lines__billed_count"),
            )
        )

    @display(description=_("结算单"))
    def title(self, row: Statement) -> str:
        """Name contract and period."""
        return _t("%(contract)s 第 %(number)s 期") % {
            "contract": row.period.contract,
            "number": row.period.number,
        }

    @display(description=_("中标人"))
    def supplier(self, row: Statement) -> str:
        """Show who is owed."""
        return str(row.period.contract.supplier)

    @display(description=_("起止日期"))
    def span(self, row: Statement) -> str:
        """Show the half-year."""
        return f"{row.period.starts_on} – {row.period.ends_on}"

    @display(description=_("计费张数"))
    def billed(self, row: Any) -> str:
        """Show how many cards are billed."""
        return grouped(row.billed_total or 0)

    @display(description=_("合计金额"))
    def amount(self, row: Any) -> str:
        """Show the sum."""
        return format_yuan(row.total)

    @display(description=_("调整合计"))
    def adjusted(self, row: Any) -> str:
        """Show the sum of the approved adjustments."""
        return format_yuan(row.added)

    @display(description=_("应付金额"))
    def owed(self, row: Any) -> str:
        """Show the sum of lines and approved adjustments."""
        return format_yuan(row.total + row.added)

    @display(description=_("金额大写"))
    def owed_words(self, row: Any) -> str:
        """Write what is owed in capital numerals."""
        return capital_yuan(row.total + row.added)

    @display(description=_("调整"))
    def adjustments(self, row: Statement) -> SafeString:
        """Show what corrects the closed statement."""
        return adjustment_table(row)

    @display(description=_("明细"))
    def lines(self, row: Statement) -> SafeString:
        """Show the statement's lines."""
        rows = [
            (
                line.bank,
                line.get_card_kind_display(),
                grouped(line.billed_count),
                grouped(line.unbilled_count),
                format_yuan(line.unit_price),
                format_yuan(line.amount),
            )
            for line in row.lines.select_related("bank")[:LINES_SHOWN]
        ]
        headers = [_t("银行"), _t("卡种"), _t("计费张数"), _t("不计费张数"), _t("单价"), _t("金额")]
        return table(headers, rows, empty=_t("本期没有已签收的卡片"))

    @display(description="")
    def line_list(self, row: Statement) -> SafeString:
        """Link the list of lines."""
        return listing(StatementLine, _t("查看该合同的全部明细"), contract=row.period.contract.number)

    @verb(
        label=_("起草结算单"),
        permission="billing.draft_statement",
        form=DraftForm,
        icon="note_add",
        variant=ActionVariant.PRIMARY,
        help_text=_("按已签收的卡片重新计数；同一结算期重复起草得到同一张结算单。"),
    )
    def draft(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Draft the statement of a half-year."""
        statement = draft_statement(cleaned["contract"], on=cleaned["on"], actor=signed_in(request))
        names = {"contract": statement.period.contract, "number": statement.period.number}
        return _t("%(contract)s 第 %(number)s 期结算单已起草") % names

    @verb(
        label=_("重新起草"),
        permission="billing.draft_statement",
        when=lambda row: row.status == Statement.Status.DRAFT,
        icon="refresh",
    )
    def redraft(self, request: HttpRequest, row: Statement, cleaned: dict[str, Any]) -> str:
        """Count anew."""
        draft_statement(row.period.contract, on=row.period.starts_on, actor=signed_in(request))
        return _t("结算单已按最新签收情况重新起草")

    @verb(
        label=_("结算"),
        permission="billing.close_statement",
        when=lambda row: row.status == Statement.Status.DRAFT,
        icon="task_alt",
        variant=ActionVariant.PRIMARY,
        help_text=_("结算期结束后办理。结算后明细不能再改，只能由两人办理调整。"),
    )
    def close(self, request: HttpRequest, row: Statement, cleaned: dict[str, Any]) -> str:
        """Settle the half-year."""
        close_statement(row, actor=signed_in(request))
        return _t("已结算，明细不再变动")

    @verb(
        label=_("申请调整"),
        permission="billing.request_adjustment",
        form=AdjustmentForm,
        when=lambda row: row.status == Statement.Status.CLOSED,
        icon="exposure",
        help_text=_("更正已结算的张数，须由另一人复核后生效；原明细不变。"),
    )
    def adjust(self, request: HttpRequest, row: Statement, cleaned: dict[str, Any]) -> str:
        """Ask to correct the closed statement."""
        request_adjustment(row, **cleaned, actor=signed_in(request))
        return _t("已提出调整，须由另一人复核")

    @verb(
        label=_("下载 Excel"),
        permission="billing.view_statement",
        icon="download",
        variant=ActionVariant.PRIMARY,
        download=True,
    )
    def download(self, request: HttpRequest, row: Statement, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Send the statement as Excel."""
        actor = signed_in(request)
        return written(f"{self.title(row)}.xlsx", lambda target: statement_workbook(row, target, actor=actor))


@register(StatementLine)
class StatementLineAdmin(ScopedAdmin[StatementLine]):
    """Lines of all statements."""

    list_display = (
        "title",
        "statement_link",
        "bank",
        "card_kind",
        "billed",
        "unbilled",
        "unit_price",
        "amount",
    )
    list_display_links = ("title",)
    list_select_related = ("statement__period__contract", "bank")
    list_filter = (
        ("card_kind", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, _("银行")),
        exact_filter("contract", _("合同编号"), "statement__period__contract__number"),
    )
    fields = ("statement_link", "bank", "card_kind", "billed", "unbilled", "unit_price", "amount")
    statement_link = reference_column("statement", _("结算单"))

    @display(description=_("明细"))
    def title(self, row: StatementLine) -> str:
        """Name the line by its number."""
        return f"#{row.pk}"

    @display(description=_("计费张数"))
    def billed(self, row: StatementLine) -> str:
        """Show the billed cards."""
        return grouped(row.billed_count)

    @display(description=_("不计费张数"))
    def unbilled(self, row: StatementLine) -> str:
        """Show the cards that are never billed (R-13, R-35)."""
        return grouped(row.unbilled_count)
