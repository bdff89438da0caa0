"""The programme's frame: contracts of the three lots, the banks and where their cards go."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind, ContractStatus, SortOrder
from portal.models import Organisation
from portal.scoping import ScopedModel

# quantity cap and budget in yuan of each lot; R-3: price cap of a finished card.
LOTS: Mapping[int, tuple[int, Decimal]] = {
    1: (1_375_000, Decimal("13750000.00")),
    2: (825_000, Decimal("8250000.00")),
    3: (550_000, Decimal("5500000.00")),
}
PRICE_CAP = Decimal("10.00")


def _within_lot() -> Q:
    allowed = Q(pk__isnull=True) & Q(pk__isnull=False)
    for lot, (quantity, budget) in LOTS.items():
        allowed |= Q(lot=lot, quantity_cap__lte=quantity, budget__lte=budget)
    return allowed


class Contract(ScopedModel):
    """One lot with its supplier, prices and caps (R-1 … R-4)."""

    Status = ContractStatus
    TRANSITIONS: ClassVar[Mapping[ContractStatus, frozenset[ContractStatus]]] = {
        ContractStatus.DRAFT: frozenset({ContractStatus.ACTIVE}),
        ContractStatus.ACTIVE: frozenset({ContractStatus.CLOSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "supplier"}

    number = models.CharField(_("合同编号"), max_length=40, unique=True)
    lot = models.PositiveSmallIntegerField(
        _("包组"), choices=[(1, _("包组一")), (2, _("包组二")), (3, _("包组三"))]
    )
    supplier = models.ForeignKey(
        Organisation,
        verbose_name=_("中标人"),
        on_delete=models.PROTECT,
        related_name="contracts",
        limit_choices_to={"kind": "supplier"},
    )
    quantity_cap = models.PositiveIntegerField(_("数量上限（张）"))
    budget = models.DecimalField(_("预算（元）"), max_digits=14, decimal_places=2)
    finished_price = models.DecimalField(_("成品卡单价（元）"), max_digits=6, decimal_places=2)
    face_fee = models.DecimalField(_("卡面个性化费用（元）"), max_digits=6, decimal_places=2)
    signed_on = models.DateField(_("签订日期"))
    # three years after signing; the budget may end it sooner (see selectors.contracts).
    ends_on = models.GeneratedField(
        verbose_name=_("截止日期"),
        expression=models.Func(F("signed_on"), template="(%(expressions)s + INTERVAL '3 years')::date"),
        output_field=models.DateField(),
        db_persist=True,
    )
    status = models.CharField(
        _("状态"), max_length=16, choices=ContractStatus.choices, default=ContractStatus.DRAFT
    )

    class Meta:
        verbose_name = _("合同")
        verbose_name_plural = pgettext_lazy("plural", "合同")
        ordering = ["lot"]
        constraints = [
            models.CheckConstraint(
                name="contract_within_lot",
                condition=_within_lot(),
                violation_error_message=_("数量或预算超出该包组的上限（R-1）"),
            ),
            models.CheckConstraint(
                name="contract_price_cap",
                condition=Q(finished_price__gt=0, finished_price__lte=PRICE_CAP),
                violation_error_message=_("成品卡单价须大于 0 且不超过 10.00 元（R-3）"),
            ),
            models.CheckConstraint(
                name="contract_face_fee_below_price",
                condition=Q(face_fee__gte=0, face_fee__lt=F("finished_price")),
                violation_error_message=_("卡面个性化费用须小于成品卡单价（R-4）"),
            ),
            models.UniqueConstraint(
                name="contract_one_active_per_lot",
                fields=["lot"],
                condition=Q(status="active"),
                violation_error_message=_("该包组已有执行中的合同（R-1）"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_lot_display()} {self.number}"

    @property
    def premade_price(self) -> Decimal:
        """Price of a pre-made card in yuan: the finished price without the face fee (R-4)."""
        return self.finished_price - self.face_fee

    def price_of(self, card_kind: str) -> Decimal:
        """Unit price in yuan; test and sample cards are never billed (R-13)."""
        if card_kind == CardKind.FINISHED:
            return self.finished_price
        return self.premade_price if card_kind == CardKind.PREMADE else Decimal("0.00")


class BankProfile(ScopedModel):
    """How the programme works with one issuing bank (R-5, R-19)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "", "bank": "organisation"}

    organisation = models.OneToOneField(
        Organisation,
        verbose_name=_("银行"),
        on_delete=models.PROTECT,
        related_name="bank_profile",
        limit_choices_to={"kind": "bank"},
    )
    sort_order = models.CharField(
        _("排序方式"), max_length=16, choices=SortOrder.choices, default=SortOrder.EMPLOYER
    )
    carton_size = models.PositiveIntegerField(_("每箱张数"), default=200)
    account_layout = models.JSONField(_("账号文件列对应"), default=dict, blank=True)

    class Meta:
        verbose_name = _("银行设置")
        verbose_name_plural = pgettext_lazy("plural", "银行设置")
        ordering = ["organisation__code"]
        constraints = [
            models.CheckConstraint(
                name="bank_carton_size",
                condition=Q(carton_size__gte=1, carton_size__lte=2000),
                violation_error_message=_("每箱张数须在 1 至 2000 之间"),
            )
        ]

    def __str__(self) -> str:
        return str(self.organisation)


class DeliveryPoint(ScopedModel):
    """A bank's branch to which cards are delivered (R-23)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "", "bank": "bank"}

    bank = models.ForeignKey(
        Organisation, verbose_name=_("银行"), on_delete=models.PROTECT, related_name="delivery_points"
    )
    code = models.CharField(_("网点代码"), max_length=32)
    name = models.CharField(_("网点名称"), max_length=100)
    address = models.CharField(_("地址"), max_length=200)
    is_active = models.BooleanField(_("启用"), default=True)

    class Meta:
        verbose_name = _("交付网点")
        verbose_name_plural = pgettext_lazy("plural", "交付网点")
        ordering = ["bank", "code"]
        constraints = [models.UniqueConstraint(name="delivery_point_code", fields=["bank", "code"])]

    def __str__(self) -> str:
        return self.name
