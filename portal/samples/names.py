"""Invented names: Han, minority with the separator ·, and Latin ones of foreigners (R-12)."""

from __future__ import annotations

import random
from typing import Final

NAME_SEPARATOR: Final = "\u00b7"

# Each of these stands in Noto Sans CJK; a test holds that.
RARE_CHARACTERS: Final = "㐂䶮𬭸𬱖𬘬𫖯𫘧𬬭𫟹𬍛𫓯𠮷㛃㙔䜣㬎㵘𬇙𫍯𬀩𬸣𫰛𬍡𨭎㮾䲟㻬𬘘"
RARE_SHARE: Final = 0.03

_SURNAMES: Final = (
    "陈李黄张梁林何罗吴刘陈李黄张梁林麦霍冼区关潘邓叶谢郭曾杨周苏卢蔡冯谭郑钟邝伍莫欧简招游孔岑庞劳"
    "王赵孙徐朱马胡高彭吕魏蒋沈韩唐董袁于余杜戴夏石姚范方邹熊孟秦白江阎薛尹段雷侯龙史陶贺毛龚邵万钱严覃武甘"
)
_COMPOUND_SURNAMES: Final = ("欧阳", "司徒", "上官", "司马", "诸葛", "慕容")
_MALE: Final = (
    "伟强磊军洋勇杰涛明超刚平辉鹏华飞鑫波斌宇浩凯健俊帆旭宁龙林欢宏志文博轩子豪嘉泽锐铭晖柏桓峻邦炜锴"
)
_FEMALE: Final = (
    "芳娜敏静丽艳娟霞秀燕玲桂英兰萍红玉洁梅琳雪慧莹倩婷雯颖佳欣怡悦诗涵梦瑶思语晴彤蕾薇婉钰珊妍嫣"
)

_WESTERN_MALE: Final = (
    "买买提", "艾尔肯", "吐尔逊", "玉素甫", "阿卜杜热伊木", "努尔兰", "叶尔江", "迪力夏提", "凯赛尔",
    "阿卜杜外力", "木合塔尔", "赛力克", "伊力哈木", "帕尔哈提",
)  # fmt: skip
_WESTERN_FEMALE: Final = (
    "阿依古丽", "热孜婉古丽", "帕提古丽", "古丽娜尔", "阿依努尔",
    "米日古丽", "巴哈尔古丽", "玛依拉", "迪丽拜尔",
)  # fmt: skip

_LATIN_MALE: Final = (
    "ALDEN", "BRAM", "CEDRIC", "DORIAN", "EMIL",
    "FELIX", "GIDEON", "HUGO", "IVOR", "JASPER",
)  # fmt: skip
_LATIN_FEMALE: Final = ("ADELE", "BRIONY", "CELESTE", "DELIA", "ELOISE", "FREYA", "GRETA", "HELENA", "IONA")
_LATIN_SYLLABLES: Final = (
    "BAR", "COL", "DEN", "FAL", "GRAN", "HOL",
    "KEN", "LAN", "MOR", "NOR", "PEL", "TRE",
)  # fmt: skip
_LATIN_ENDINGS: Final = ("WICK", "FORD", "STEAD", "MANN", "SEN", "OSKI", "ARD", "ETTI", "GREN", "HURST")


def han_name(rng: random.Random, *, male: bool) -> str:
    """Draw a name of two to four characters; about 3 % hold a character that few fonts carry."""
    surname = rng.choice(_COMPOUND_SURNAMES) if rng.random() < 0.01 else rng.choice(_SURNAMES)
    given = rng.choice(_MALE if male else _FEMALE)
    if rng.random() < 0.8:
        given += rng.choice(_MALE if male else _FEMALE)
    if rng.random() < RARE_SHARE:
        given = given[:-1] + rng.choice(RARE_CHARACTERS)
    return surname + given


def minority_name(rng: random.Random, *, male: bool) -> str:
    """Draw a given name and a father's name with · between them."""
    given = rng.choice(_WESTERN_MALE if male else _WESTERN_FEMALE)
    return given + NAME_SEPARATOR + rng.choice(_WESTERN_MALE)


def latin_name(rng: random.Random, *, male: bool) -> str:
    """Draw a name in capital letters as a passport writes it."""
    given = rng.choice(_LATIN_MALE if male else _LATIN_FEMALE)
    return f"{rng.choice(_LATIN_SYLLABLES)}{rng.choice(_LATIN_ENDINGS)} {given}"


_DISTRICT_WORDS: Final = ("禅城", "南海", "顺德", "三水", "高明")
_FIRST_WORDS: Final = (
    "荷岭", "榕江", "稻丰", "云泉", "锦鲤", "桑基",
    "龙舟", "秋枫", "陶韵", "岭川", "汾澜", "皂幕",
)  # fmt: skip
_SECOND_WORDS: Final = ("恒盛", "启明", "众和", "德润", "嘉利", "宏远", "信达", "泰安", "广益", "新程")
_TRADES: Final = ("陶瓷", "家具", "铝业", "电器", "纺织", "食品", "物流", "机械", "塑料", "照明", "建材")


def employer(number: int) -> tuple[str, str]:
    """Return code and name of the invented employer with this number; neither is shared below 330,000."""
    words = []
    rest = number
    for table in (_FIRST_WORDS, _SECOND_WORDS, _TRADES, _DISTRICT_WORDS):
        rest, place = divmod(rest, len(table))
        words.append(table[place])
    first, second, trade, district = words
    branch = f"第{rest}分公司" if rest else ""
    return f"4406{number:08d}", f"佛山市{district}{first}{second}{trade}有限公司{branch}"
