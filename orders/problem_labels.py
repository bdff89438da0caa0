"""Names of the codes of row findings, for lists and counts by code."""

from __future__ import annotations

from typing import Final

from portal.texts import told

PROBLEM_LABELS: Final = {
    "already_in_production": "人员已有在制记录",
    "area_unknown": "行政区划代码不认识",
    "bank_unknown": "服务银行不认识",
    "birth_implausible": "出生日期不合理",
    "birth_mismatch": "出生日期与号码不一致",
    "card_kind_unknown": "卡种不认识",
    "card_number_format": "社会保障卡号格式不对",
    "card_number_in_production": "社会保障卡号已有在制记录",
    "date_format": "日期格式不对",
    "delivery_point_unknown": "网点代码不认识",
    "document_type_mismatch": "证件类型与号码不符",
    "document_type_unknown": "证件类型不认识",
    "duplicate_person": "同一数据包内人员重复",
    "ethnicity_unknown": "民族代码不认识",
    "expiry_date_past": "卡有效期已过",
    "issue_date_ahead": "发卡日期过晚",
    "issue_kind_unknown": "制卡类型不认识",
    "name_control": "姓名含不可见字符",
    "name_missing": "缺少姓名",
    "name_no_glyph": "姓名有字库外的字",
    "name_script": "姓名不是汉字",
    "name_symbol": "姓名含不应有的符号",
    "name_too_long": "姓名过长",
    "number_area": "号码的行政区划不对",
    "number_birth": "号码中的出生日期不对",
    "number_checksum": "号码校验位不符",
    "number_country": "号码的国家代码不对",
    "number_format": "号码格式不对",
    "number_length": "号码长度不对",
    "number_missing": "缺少社会保障号码",
    "number_scientific": "号码被改成了科学计数",
    "photo_colour": "照片不是彩色",
    "photo_damaged": "照片损坏",
    "photo_ground": "照片背景不是白色",
    "photo_missing": "缺少照片",
    "photo_not_jpeg": "照片不是 JPEG",
    "photo_pixels": "照片像素不对",
    "photo_too_large": "照片文件过大",
    "photo_too_small": "照片文件过小",
    "row_cell_too_long": "单元格过长",
    "row_null_character": "行内有空字符",
    "row_quoting": "引号不成对",
    "row_too_long": "列数过多",
    "sequence_format": "序号格式不对",
    "sex_mismatch": "性别与号码不一致",
    "sex_unknown": "性别代码不认识",
    "value_control": "含控制符",
    "value_missing": "缺少必填值",
    "value_too_long": "内容过长",
}


def problem_label(code: str) -> str:
    """Return a code's name in the reader's language, the code itself where it has none."""
    return told(PROBLEM_LABELS.get(code, code))


ACCOUNT_LABELS: Final = {
    "number_missing": "缺少证件号码",
    "number_rounded": "证件号码被电子表格改成了数值",
    "number_scientific": "证件号码被电子表格改成了数值",
    "number_length": "证件号码位数不对",
    "number_checksum": "证件号码校验位不符",
    "number_area": "证件号码的行政区划不对",
    "number_birth": "证件号码中的出生日期不对",
    "number_country": "证件号码的国家代码不对",
    "number_format": "证件号码格式不对",
    "number_repeated": "同一人员重复出现",
    "number_conflict": "同一人员有互相矛盾的多行",
    "name_missing": "缺少户名",
    "name_too_long": "户名过长",
    "name_control": "户名含不可见字符",
    "name_symbol": "户名含不应有的符号",
    "account_missing": "缺少账号",
    "account_rounded": "账号被电子表格改成了数值",
    "account_format": "账号格式不对",
    "account_repeated": "账号与他人相同",
}


def account_problem_label(code: str) -> str:
    """Return the name of a finding in an account file in the reader's language."""
    return told(ACCOUNT_LABELS.get(code, "整行无法读取" if code.startswith("row_") else code))
