"""Packages of card-making data as they were received, and the keys of who sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import KeyUse, PackageStatus
from portal.models import Organisation, User
from portal.scoping import ScopedModel


class SenderKey(ScopedModel):
    """A party's SM2 public key and when it is valid; parties rotate by adding the next one.

    Packages of the party are verified with it, and what is sent to the party is sealed to it.
    """

    organisation = models.ForeignKey(
        Organisation, verbose_name=_("单位"), on_delete=models.PROTECT, related_name="sender_keys"
    )
    public_key = models.TextField(_("SM2 公钥"))
    use = models.CharField(_("用途"), max_length=16, choices=KeyUse.choices, default=KeyUse.BOTH)
    valid_from = models.DateTimeField(_("生效时间"))
    valid_until = models.DateTimeField(_("失效时间"))
    revoked_at = models.DateTimeField(_("撤销时间"), null=True, blank=True)
    added_at = models.DateTimeField(_("登记时间"), auto_now_add=True, null=True)
    added_by = models.ForeignKey(
        User, verbose_name=_("登记人"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    revoked_by = models.ForeignKey(
        User, verbose_name=_("撤销人"), null=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        verbose_name = _("发送方公钥")
        verbose_name_plural = pgettext_lazy("plural", "发送方公钥")
        ordering = ["organisation", "-valid_from"]
        constraints = [
            models.CheckConstraint(name="sender_key_validity", condition=Q(valid_until__gt=F("valid_from")))
        ]

    def __str__(self) -> str:
        return f"{self.organisation} {self.valid_from:%Y-%m-%d}"


class Package(ScopedModel):
    """A sealed package; only its payload is stored, without the wrapped key of the envelope (§4)."""

    Status = PackageStatus
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "province": "sender"}
    TRANSITIONS: ClassVar[Mapping[PackageStatus, frozenset[PackageStatus]]] = {
        PackageStatus.RECEIVED: frozenset({PackageStatus.VALIDATING, PackageStatus.REFUSED}),
        PackageStatus.VALIDATING: frozenset({PackageStatus.VALIDATED}),
        PackageStatus.VALIDATED: frozenset({PackageStatus.DESTROYED}),
    }

    number = models.CharField(_("包号"), max_length=64)
    sender = models.ForeignKey(Organisation, verbose_name=_("发送方"), null=True, on_delete=models.PROTECT)
    sender_key = models.ForeignKey(
        SenderKey, verbose_name=_("发送方公钥"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    file_name = models.CharField(_("文件名"), max_length=200)
    status = models.CharField(
        _("状态"), max_length=16, choices=PackageStatus.choices, default=PackageStatus.RECEIVED
    )
    refusal_code = models.CharField(_("拒收代码"), max_length=64, blank=True)
    refusal_text = models.CharField(_("拒收原因"), max_length=500, blank=True)
    payload_digest = models.BinaryField(_("SM3 摘要"), max_length=32, null=True)
    payload_length = models.BigIntegerField(_("明文字节数"), default=0)
    chunk_size = models.PositiveIntegerField(default=0)
    payload_context = models.BinaryField(max_length=512, default=b"")
    content_key_id = models.CharField(max_length=64, blank=True)
    key_id = models.CharField(max_length=64, blank=True)
    # From the first destruction on: a ring with a key for each person left, instead of the two keys above.
    ring_key_id = models.CharField(max_length=64, blank=True)
    rekey_wanted_at = models.DateTimeField(null=True)
    stored_name = models.CharField(max_length=200, blank=True)
    received_at = models.DateTimeField(_("接收时间"), auto_now_add=True)
    received_by = models.ForeignKey(User, verbose_name=_("接收人"), on_delete=models.PROTECT)
    record_count = models.PositiveIntegerField(_("记录数"), null=True)
    accepted_count = models.PositiveIntegerField(_("接受数"), null=True)
    returned_count = models.PositiveIntegerField(_("退回数"), null=True)
    validated_at = models.DateTimeField(_("校验完成时间"), null=True)
    destroyed_at = models.DateTimeField(_("销毁时间"), null=True)

    class Meta:
        verbose_name = _("制卡数据包")
        verbose_name_plural = pgettext_lazy("plural", "制卡数据包")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="package_no_replay",
                fields=["sender", "number"],
                condition=~Q(status="refused"),
                violation_error_message=_("该包号已接收过"),
            ),
            models.UniqueConstraint(
                name="package_no_replay_payload",
                fields=["payload_digest"],
                condition=~Q(status="refused"),
                violation_error_message=_("相同内容的数据包已接收过"),
            ),
            models.CheckConstraint(
                name="package_counts_balance",
                condition=~Q(status__in=["validated", "destroyed"])
                | Q(record_count=F("accepted_count") + F("returned_count")),
                violation_error_message=_("记录数必须等于接受数与退回数之和"),
            ),
        ]

    def __str__(self) -> str:
        return self.number


class PackagePhoto(models.Model):
    """Where one photo lies in a package's payload, found by the blind index of its number."""

    package = models.ForeignKey(Package, on_delete=models.CASCADE, related_name="photos")
    number_index = models.BinaryField(max_length=32)
    offset = models.BigIntegerField()
    compressed_size = models.PositiveIntegerField()
    size = models.PositiveIntegerField()
    method = models.PositiveSmallIntegerField()
    crc = models.BigIntegerField()

    class Meta:
        verbose_name = _("照片位置")
        verbose_name_plural = pgettext_lazy("plural", "照片位置")
        constraints = [models.UniqueConstraint(name="package_photo_once", fields=["package", "number_index"])]

    def __str__(self) -> str:
        return f"{self.package_id}+{self.offset}"


class IntakeChunk(models.Model):
    """A run of rows of records.csv, sealed under the package's key, until its task has checked them."""

    package = models.ForeignKey(Package, on_delete=models.CASCADE, related_name="chunks")
    part = models.PositiveIntegerField()
    row_count = models.PositiveIntegerField()
    sealed_rows = models.BinaryField()

    class Meta:
        verbose_name = _("待校验分块")
        verbose_name_plural = pgettext_lazy("plural", "待校验分块")
        constraints = [models.UniqueConstraint(name="intake_chunk_part", fields=["package", "part"])]

    def __str__(self) -> str:
        return f"{self.package_id}/{self.part}"
