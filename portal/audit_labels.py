"""The audit's actions in words: `batch.released` is 批次：已下达.

An action is a thing and what happened to it. Most things are models and most happenings their states, which
have labels already; the tables here name the rest. A test finds every action that has no label.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from django.apps import apps
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

APPS = ("portal", "orders", "production", "quality", "billing", "stations")

THINGS = {
    "access": _("访问"),
    "account_file": _("银行账号文件"),
    "account_package": _("密封账号包"),
    "accounts": _("银行账号"),
    "adjustment": _("调整项"),
    "audit": _("审计"),
    "calendar": _("工作日历"),
    "kek": _("主控密钥"),
    "key": _("密钥"),
    "keyimport": _("密钥导入"),
    "limit": _("频率限制"),
    "password": _("密码"),
    "personal_data": _("个人数据"),
    "record": _("持卡人记录"),
    "records": _("持卡人记录"),
    "second_factor": pgettext_lazy("audited", "动态口令"),
    "second_person": _("双人办理"),
    "session": _("会话"),
    "sign_in": pgettext_lazy("audited", "登录"),
    "supplier": _("中标人"),
    "unmatched": _("未匹配记录"),
}
VERBS = {
    "admitted": _("应急收录"),
    "added": _("新增"),
    "anchored": _("签署锚点"),
    "anchors_exported": _("导出锚点"),
    "begun": _("开始登记"),
    "blank_returned": _("退回白卡"),
    "blanks_received": _("领入白卡"),
    "blanks_spoiled": _("报废白卡"),
    "blanks_taken": _("领用白卡"),
    "cards_settled": _("认定卡片结果"),
    "changed": _("修改"),
    "check_requested": _("申请核对"),
    "chosen": _("选定"),
    "cleared": _("解除"),
    "closed": _("关闭"),
    "codes_renewed": _("更换恢复码"),
    "collected": _("领取"),
    "corrected": _("补录"),
    "counts_differ": _("数量核对不符"),
    "created": _("建立"),
    "credential_withdrawn": _("撤销凭证"),
    "day_count_differs": _("日终盘点不符"),
    "destroyed": _("销毁"),
    "destruction_certified": _("签署销毁证明"),
    "drafted": _("起草"),
    "due_moved": _("调整期限"),
    "edited": _("修改"),
    "ended": pgettext_lazy("done", "结束"),
    "enrolled": _("登记"),
    "enrolment_offered": pgettext_lazy("done", "发出登记码"),
    "enrolment_refused": _("登记被拒绝"),
    "exceeded": _("超出上限"),
    "exported": _("导出"),
    "face_sent": _("下发卡面"),
    "face_viewed": _("查看卡面"),
    "failed": _("失败"),
    "faults_shown": _("查看问题"),
    "inspected": _("检验完成"),
    "inspection_started": _("开始检验"),
    "issued": _("签发"),
    "journal_exported": _("导出日志"),
    "layout_set": _("设定列对应"),
    "left": _("离开"),
    "list_downloaded": _("下载清单"),
    "load_requested": _("申请入库"),
    "locked": _("锁定"),
    "made": _("提出"),
    "match_requested": _("申请匹配"),
    "matched": _("匹配"),
    "opened_at_counter": _("柜面开批"),
    "opened_for_correction": _("打开补录"),
    "orphans_destroyed": _("销毁无主密钥"),
    "orphans_refused": _("拒绝清理密钥"),
    "password_reset": _("重置密码"),
    "people_exported": _("导出名单"),
    "person_searched": _("按人员查询"),
    "personal_data_destroyed": _("销毁个人数据"),
    "photo_viewed": _("查看照片"),
    "placed": _("冻结"),
    "planned": _("拆分"),
    "print_again_asked": _("要求再次打印"),
    "probe_written": _("写入销毁核验样本"),
    "problems_exported": _("导出问题清单"),
    "proposed": _("提交"),
    "raised": _("报警"),
    "read_again": _("重新回读"),
    "received": _("接收"),
    "recorded": _("登记"),
    "recovery_used": _("使用恢复码"),
    "refused": _("已拒绝"),
    "rejected": _("判为废品"),
    "rekey_started": _("开始换钥"),
    "rekeyed": _("换钥完成"),
    "reported": _("上报结果"),
    "requested": _("申请"),
    "reset": _("重置"),
    "resolve_asked": _("申请认定"),
    "retired": _("到期清除"),
    "ring_relinked": _("找回密钥环"),
    "retried": _("重试"),
    "return_file_requested": _("申请回盘文件"),
    "return_file_written": _("生成回盘文件"),
    "downloaded": _("下载"),
    "returned": _("返回"),
    "returns_exported": _("导出退回清单"),
    "revoked": _("吊销"),
    "loss_accepted": _("确认缺失"),
    "roles_granted": _("授予角色"),
    "rotated": _("轮换"),
    "scanned": _("扫描"),
    "searched": _("查询人员"),
    "seeded": _("载入节假日"),
    "self_test_reported": _("自检上报"),
    "self_test_requested": _("申请自检"),
    "signed": _("签署"),
    "signed_out": _("退出"),
    "started": pgettext_lazy("done", "开始"),
    "succeeded": _("成功"),
    "unlocked": _("解锁"),
    "unmasked": _("查看明文"),
    "verified": _("校验"),
    "viewed": pgettext_lazy("done", "查看"),
}
RESULTS = {"done": _("成功"), "refused": _("已拒绝"), "failed": _("失败")}
# Names of what entries carry besides before and after; a name that is not here is shown as it is.
DETAILS = {
    "reason": _("理由"),
    "person": _("人员假名"),
    "card": _("卡片假名"),
    "fields": _("字段"),
    "changes": _("修改内容"),
    "code": _("错误代码"),
    "roles": _("角色"),
    "active": _("启用"),
    "organisation": _("单位"),
    "quantity": _("数量"),
    "rows": _("行数"),
    "records": _("记录数"),
    "cards": _("卡片数"),
    "found": _("找到条数"),
    "columns": _("查询项"),
    "version": _("版本"),
    "first": _("起"),
    "last": _("止"),
    "format": _("格式"),
    "position": _("审计序号"),
    "checked": _("核对条数"),
    "faults": _("问题"),
    "username": _("用户名"),
    "days": _("天数"),
    "contract": pgettext_lazy("singular", "合同"),
    "bank": _("合作银行"),
    "before": _("变更前"),
    "after": _("变更后"),
}


def action_label(action: str) -> str:
    """Return an action in words, or as it is where a part of it has none."""
    thing, _dot, verb = action.partition(".")
    named, happened = _thing(thing), _verb(thing, verb)
    if not named or not happened:
        return action
    return _("%(thing)s：%(verb)s") % {"thing": named, "verb": happened}


def is_labelled(action: str) -> bool:
    """Say whether an action has words for both of its parts."""
    thing, _dot, verb = action.partition(".")
    return bool(_thing(thing) and _verb(thing, verb))


def _thing(thing: str) -> str:
    model = _models().get(thing)
    return str(THINGS.get(thing) or (model._meta.verbose_name if model else ""))


def _verb(thing: str, verb: str) -> str:
    """Return the label of a happening: a state of the model comes before the general word."""
    return str(dict(_choices(_models().get(thing))).get(verb) or VERBS.get(verb, ""))


def _choices(model: type[models.Model] | None) -> Iterator[tuple[str, str]]:
    for field in model._meta.concrete_fields if model else ():
        if field.name in ("status", "kind"):
            yield from ((str(value), str(label)) for value, label in field.flatchoices)


@cache
def _models() -> dict[str, type[models.Model]]:
    return {
        str(model._meta.model_name): model
        for label in APPS
        for model in apps.get_app_config(label).get_models()
    }
