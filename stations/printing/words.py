"""What printers say of themselves, in words for people (RFC 8011 §5.4.12, PWG 5100.9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

REASONS: Mapping[str, str] = {
    "media-empty": "卡槽空",
    "media-needed": "需要放卡",
    "media-low": "卡片将尽",
    "media-jam": "卡片卡住",
    "input-tray-missing": "进卡盒未装",
    "output-area-full": "出卡盒满",
    "output-tray-missing": "出卡盒未装",
    "marker-supply-empty": "色带用完",
    "marker-supply-low": "色带将尽",
    "marker-supply-missing": "未装色带",
    "marker-waste-full": "废料盒满",
    "toner-empty": "色带用完",
    "toner-low": "色带将尽",
    "cover-open": "盖子打开",
    "door-open": "门打开",
    "interlock-open": "门未关好",
    "cleaner-life-over": "清洁辊到期",
    "cleaner-life-almost-over": "清洁辊将到期",
    "opc-life-over": "打印头到期",
    "paused": "打印机已暂停",
    "moving-to-paused": "打印机正在暂停",
    "shutdown": "打印机关机",
    "connecting-to-device": "正在连接打印机",
    "timed-out": "打印机超时",
    "stopping": "打印机正在停止",
    "spool-area-full": "打印队列已满",
    "offline": "打印机离线",
    "job-canceled-by-user": "任务被用户取消",
    "job-canceled-at-device": "任务在打印机上被取消",
    "job-canceled-by-operator": "任务被管理员取消",
    "aborted-by-system": "打印系统中止了任务",
    "document-format-error": "打印机无法读取图像",
    "printer-stopped": "打印机停止",
    "printer-unreachable": "无法连接打印机",
    "other": "其他故障",
}
_SEVERITIES = ("-error", "-warning", "-report")
QUIET = frozenset({"none", "job-completed-successfully", "job-printing", "job-incoming", "job-queued"})


def bare(reason: str) -> str:
    """Return a reason without its severity: `media-empty-error` is `media-empty`."""
    for ending in _SEVERITIES:
        if reason.endswith(ending):
            return reason.removesuffix(ending)
    return reason


def loud(reasons: Iterable[str]) -> tuple[str, ...]:
    """Return the reasons that tell somebody something, each once."""
    return tuple(dict.fromkeys(reason for reason in reasons if reason not in QUIET))


def in_words(reasons: Iterable[str]) -> str:
    """Return reasons for people; those without a word stay as the printer says them."""
    return "、".join(dict.fromkeys(REASONS.get(bare(reason), reason) for reason in reasons))
