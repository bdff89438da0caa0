"""Status words of the card and what they mean to people (card.md §2)."""

from __future__ import annotations

from collections.abc import Mapping

OK = 0x9000
MEANINGS: Mapping[int, str] = {
    0x9000: "成功",
    0x6581: "写存储器失败",
    0x6700: "长度错误",
    0x6981: "命令与文件结构不符",
    0x6982: "安全条件不满足",
    0x6983: "认证方法锁定",
    0x6984: "随机数无效",
    0x6985: "使用条件不满足",
    0x6986: "没有选择文件",
    0x6987: "缺少安全报文",
    0x6988: "安全报文不正确",
    0x6A80: "数据域参数错误",
    0x6A81: "不支持此功能",
    0x6A82: "没有找到文件",
    0x6A83: "没有找到记录",
    0x6A86: "参数 P1 P2 错误",
    0x6A88: "没有找到数据",
    0x6D00: "不支持此命令",
    0x6E00: "不支持此类别",
    0x9303: "应用已锁定",
    0x9406: "MAC 不可用",
}


def meaning(sw: int) -> str:
    """Return the meaning of a status word, with the tries left for 63Cx."""
    if sw & 0xFFF0 == 0x63C0:
        return f"验证失败，还可再试 {sw & 0xF} 次"
    return MEANINGS.get(sw, "未知状态")
