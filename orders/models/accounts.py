"""Account data of the banks, waiting to be matched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import AccountFileStatus, AccountPackageStatus
from orders.models.packages import SenderKey
from portal.models import Organisation, User
from portal.scoping import ScopedModel


class AccountPackage(ScopedModel):
    """A bank's sealed account package: the register against replay, and why one was refused (R-8).

    Of its content only the account files are kept, each sealed under a key of its own.
    """

    Status = AccountPackageStatus
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "bank": "bank"}

    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    number = models.CharField(_("包号"), max_length=64)
    sender_key = models.ForeignKey(
        SenderKey, verbose_name=_("发送方公钥"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    file_name = models.CharField(_("文件名"), max_length=200)
    status = models.CharField(_("状态"), max_length=16, choices=AccountPackageStatus.choices)
    refusal_code = models.CharField(_("拒收代码"), max_length=64, blank=True)
    refusal_text = models.CharField(_("拒收原因"), max_length=500, blank=True)
    payload_digest = models.BinaryField(_("SM3 摘要"), max_length=32, null=True)
    received_at = models.DateTimeField(_("接收时间"), auto_now_add=True)
    received_by = models.ForeignKey(User, verbose_name=_("接收人"), on_delete=models.PROTECT)

    class Meta:
        verbose_name = _("密封账号包")
        verbose_name_plural = pgettext_lazy("plural", "密封账号包")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="account_package_no_replay",
                fields=["bank", "number"],
                condition=Q(status="received"),
                violation_error_message=_("该包号已接收过"),
            ),
            models.UniqueConstraint(
                name="account_package_no_replay_payload",
                fields=["payload_digest"],
                condition=Q(status="received"),
                violation_error_message=_("相同内容的数据包已接收过"),
            ),
        ]

    def __str__(self) -> str:
        return self.number


class AccountFile(ScopedModel):
    """An account file as a bank uploaded it, stored sealed under a key of its own."""

    Status = AccountFileStatus
    TRANSITIONS: ClassVar[Mapping[AccountFileStatus, frozenset[AccountFileStatus]]] = {
        AccountFileStatus.RECEIVED: frozenset({AccountFileStatus.CHECKED, AccountFileStatus.REFUSED}),
        AccountFileStatus.CHECKED: frozenset({AccountFileStatus.LOADED, AccountFileStatus.REFUSED}),
        AccountFileStatus.LOADED: frozenset({AccountFileStatus.DESTROYED}),
        AccountFileStatus.REFUSED: frozenset({AccountFileStatus.DESTROYED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "bank": "bank"}

    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    package = models.ForeignKey(
        AccountPackage,
        verbose_name=_("密封账号包"),
        null=True,
        on_delete=models.PROTECT,
        related_name="files",
    )
    file_name = models.CharField(_("文件名"), max_length=200)
    digest = models.BinaryField(_("SM3 摘要"), max_length=32)
    size = models.PositiveBigIntegerField(_("字节数"))
    status = models.CharField(
        _("状态"), max_length=16, choices=AccountFileStatus.choices, default=AccountFileStatus.RECEIVED
    )
    refusal_code = models.CharField(_("拒收代码"), max_length=64, blank=True)
    refusal_text = models.CharField(_("拒收原因"), max_length=500, blank=True)
    key_id = models.CharField(max_length=64)
    ring_key_id = models.CharField(max_length=64, blank=True)  # once loaded: a key for each row
    stored_name = models.CharField(max_length=200)
    problems_sealed = models.BinaryField(null=True)
    row_count = models.PositiveIntegerField(_("行数"), null=True)
    good_count = models.PositiveIntegerField(_("有效行"), null=True)
    refused_count = models.PositiveIntegerField(_("问题行"), null=True)
    uploaded_at = models.DateTimeField(_("上传时间"), auto_now_add=True)
    uploaded_by = models.ForeignKey(User, verbose_name=_("上传人"), on_delete=models.PROTECT)

    class Meta:
        verbose_name = _("银行账号文件")
        verbose_name_plural = pgettext_lazy("plural", "银行账号文件")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="account_file_no_replay",
                fields=["bank", "digest"],
                condition=~Q(status__in=["refused", "destroyed"]),
                violation_error_message=_("相同的账号文件已上传过"),
            )
        ]

    def __str__(self) -> str:
        return self.file_name


class AccountRow(ScopedModel):
    """One person's account at one bank; newer rows replace older ones of the same bank and number."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"bank": "bank"}

    account_file = models.ForeignKey(AccountFile, on_delete=models.CASCADE, related_name="rows")
    bank = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    row_number = models.PositiveIntegerField()
    number_index = models.BinaryField(max_length=32)
    name_index = models.BinaryField(max_length=32)
    account_index = models.BinaryField(max_length=32)
    account_sealed = models.BinaryField()
    is_current = models.BooleanField(default=True)

    class Meta:
        verbose_name = _("银行账号")
        verbose_name_plural = pgettext_lazy("plural", "银行账号")
        constraints = [
            models.UniqueConstraint(
                name="account_row_one_current_per_person",
                fields=["bank", "number_index"],
                condition=Q(is_current=True),
            ),
            models.UniqueConstraint(name="account_row_number", fields=["account_file", "row_number"]),
        ]
        indexes = [models.Index(fields=["number_index"])]

    def __str__(self) -> str:
        return f"{self.account_file_id}#{self.row_number}"
