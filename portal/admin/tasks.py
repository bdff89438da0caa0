"""Admin of background work."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from portal.adminkit import (
    ScopedAdmin,
    exact_filter,
    register,
    signed_in,
    status_column,
    verb,
)
from portal.adminkit.columns import told_column
from portal.choices import OrganisationKind, TaskStatus
from portal.models import Task
from portal.services.tasks import retry_task

TASK_NAMES = {
    "open_package": gettext_lazy("打开数据包"),
    "check_chunk": gettext_lazy("校验记录"),
    "check_account_file": gettext_lazy("预检账号文件"),
    "load_account_file": gettext_lazy("导入账号文件"),
    "match_bank": gettext_lazy("匹配账号"),
    "prepare_run": gettext_lazy("准备制卡数据"),
    "make_run": gettext_lazy("生产线制作"),
    "inspect_cards": gettext_lazy("读回核对"),
    "write_list": gettext_lazy("生成交接清单"),
    "write_return_file": gettext_lazy("生成回盘文件"),
    "certify": gettext_lazy("出具销毁证明"),
    "rekey_part": gettext_lazy("重新密封其余人员"),
}


@register(Task)
class TaskAdmin(ScopedAdmin[Task]):
    """Background work, above all what failed."""

    list_display = (
        "handler_name",
        "subject",
        "part",
        "state",
        "attempts",
        "error_code",
        "created_at",
        "finished_at",
    )
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("subject_type", gettext_lazy("对象类别")),
        exact_filter("subject_id", gettext_lazy("对象编号")),
    )
    list_select_related = ("requested_by",)
    actions_detail = ("retry",)
    fields = (
        "handler", "subject", "part", "queue", "state", "attempts", "error_code", "error",
        "requested_by",
        "created_at", "enqueued_at", "started_at", "finished_at",
    )  # fmt: skip
    state = status_column({"queued": "info", "done": "success", "failed": "danger"})
    error = told_column("error_text", gettext_lazy("错误"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Show suppliers only what their own people or the system started for nobody in particular."""
        rows = super().get_queryset(request)
        home = signed_in(request).organisation
        if home is not None and home.kind == OrganisationKind.PURCHASER:
            return rows
        return rows.filter(requested_by__organisation=home) if home is not None else rows.none()

    @display(description=gettext_lazy("处理程序"))
    def handler_name(self, row: Task) -> str:
        """Say what the task does."""
        name = row.handler.rsplit(".", 1)[-1]
        return str(TASK_NAMES.get(name, name))

    @display(description=gettext_lazy("对象"))
    def subject(self, row: Task) -> str:
        """Name what the task works on."""
        try:
            kind = apps.get_model(row.subject_type)._meta.verbose_name
        except LookupError:
            kind = row.subject_type
        return f"{kind} #{row.subject_id}"

    @verb(
        label=gettext_lazy("重试"),
        permission="portal.retry_task",
        when=lambda task: task.status == TaskStatus.FAILED,
        icon="replay",
        help_text=gettext_lazy("请先排除失败原因。任务可重复执行，不会重复处理已完成的部分。"),
    )
    def retry(self, request: HttpRequest, row: Task, cleaned: dict[str, Any]) -> str:
        """Retry a failed task."""
        retry_task(row, actor=signed_in(request))
        return _("任务已重新排队")
