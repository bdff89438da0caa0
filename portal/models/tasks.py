"""Background work, and what it still has to remove."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.choices import TaskStatus
from portal.models.people import User


class Task(models.Model):
    """One unit of background work; this row is the truth, an RQ job only wakes a worker (D7).

    While a worker runs it, it holds the row's lock; the work and `done` commit together.
    """

    Status = TaskStatus

    handler = models.CharField(_("处理程序"), max_length=120)
    subject_type = models.CharField(_("对象类别"), max_length=64)
    subject_id = models.BigIntegerField(_("对象编号"))
    part = models.PositiveIntegerField(_("分块"), default=0)
    queue = models.CharField(_("队列"), max_length=32, default="default")
    status = models.CharField(_("状态"), max_length=16, choices=TaskStatus.choices, default=TaskStatus.QUEUED)
    attempts = models.PositiveSmallIntegerField(_("尝试次数"), default=0)
    error_code = models.CharField(_("错误代码"), max_length=64, blank=True)
    error_text = models.CharField(_("错误"), max_length=500, blank=True)
    requested_by = models.ForeignKey(User, verbose_name=_("发起人"), null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    enqueued_at = models.DateTimeField(_("入队时间"))
    started_at = models.DateTimeField(_("开始时间"), null=True)
    finished_at = models.DateTimeField(_("完成时间"), null=True)

    class Meta:
        verbose_name = _("后台任务")
        verbose_name_plural = pgettext_lazy("plural", "后台任务")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="task_once_per_part", fields=["handler", "subject_type", "subject_id", "part"]
            )
        ]
        indexes = [
            models.Index(fields=["enqueued_at"], name="task_queued", condition=models.Q(status="queued")),
            models.Index(fields=["subject_type", "subject_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.handler.rsplit('.', 1)[-1]} {self.subject_type} {self.subject_id}/{self.part}"


class PendingRemoval(models.Model):
    """A key or stored file whose owner is gone; removed right after the commit, or by the sweeper (R-22)."""

    class Kind(models.TextChoices):
        """What is to be removed."""

        KEY = "key", _("密钥")
        FILE = "file", _("文件")

    kind = models.CharField(_("类别"), max_length=8, choices=Kind.choices)
    name = models.CharField(_("名称"), max_length=200)
    requested_at = models.DateTimeField(_("登记时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("待清除项")
        verbose_name_plural = pgettext_lazy("plural", "待清除项")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="pending_removal_once", fields=["kind", "name"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
