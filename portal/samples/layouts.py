"""The 18 shapes of account files, one for each bank of R-5: other names, another order, another encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["xlsx", "csv"]
Encoding = Literal["utf-8", "gb18030"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one bank writes its account file; `header_row` counts from 0, the rows above it are decoration.

    `columns` maps field to label in the order of the file: number, name and account are the ones that
    matter. Accounts start with the invented `bin` and have `account_length` digits.
    """

    bank_code: str
    kind: Kind
    columns: Mapping[str, str]
    header_row: int
    encoding: Encoding
    byte_order_mark: bool
    bin: str
    account_length: int

    @property
    def mapping(self) -> dict[str, str]:
        """Return what a bank's saved column mapping says: field to label of the three that matter."""
        return {field: self.columns[field] for field in ("number", "name", "account")}

    @property
    def file_name(self) -> str:
        """Return a name for the file."""
        return f"{self.bank_code}_accounts.{self.kind}"


# Bank, format (csv with its encoding), row of the header, columns.
_SHAPES: Final = (
    ("ICBC", "xlsx", 0, "number=身份证号码 name=姓名 account=银行账号"),
    ("ABC", "xlsx", 1, "seq=序号 name=客户姓名 number=证件号码 account=账号 branch=开户网点"),
    ("BOC", "csv utf-8", 0, "number=IDNO name=NAME account=ACCT_NO currency=CCY"),
    ("CCB", "csv gb18030", 0, "seq=序号 number=公民身份号码 name=户名 account=卡号"),
    ("BCM", "xlsx", 2, "account=太平洋卡号 name=持卡人 number=社会保障号码 opened=开户日期"),
    ("CEB", "csv utf-8-sig", 1, "name=姓名 account=阳光卡号 number=身份证号"),
    ("CGB", "xlsx", 0, "branch=网点代码 seq=编号 number=证件号 name=姓名 account=金融账户"),
    ("CMB", "csv gb18030", 2, "number=证件号码 name=客户名称 account=一卡通号 product=产品"),
    ("SDRCB", "csv gb18030", 1, "seq=行号 name=参保人姓名 number=参保人身份证 account=恒通卡账号"),
    ("FSRCB", "xlsx", 1, "seq=序号 account=社保金融账户 number=社保号 name=姓名"),
    ("NHRCB", "xlsx", 3, "name=户主姓名 number=身份证 account=存款账户 branch=支行 opened=日期"),
    ("PAB", "csv utf-8", 0, "account=account number=id_number name=customer_name opened=open_date"),
    ("CRB", "csv utf-8-sig", 0, "seq=序号 number=身份号码 name=姓名 account=卡号 currency=币种"),
    ("CITIC", "xlsx", 0, "name=姓名 number=居民身份证号 document=证件类型 account=个人账户"),
    ("GZB", "csv gb18030", 0, "document=证件种类 number=证件编号 name=名称 account=羊城卡号"),
    ("CIB", "xlsx", 2, "seq=No number=身份证件号码 account=兴业卡号 name=中文姓名 product=卡种"),
    (
        "PSBC",
        "csv gb18030",
        3,
        "branch=机构号 name=储户姓名 number=身份证号码 account=绿卡账号 opened=开户日",
    ),
    ("CZB", "csv utf-8", 1, "seq=序 account=账户号 name=姓名 number=社会保障号"),
)


def _layout(ordinal: int, bank_code: str, form: str, header_row: int, columns: str) -> Layout:
    kind, _, encoding = form.partition(" ")
    return Layout(
        bank_code=bank_code,
        kind="xlsx" if kind == "xlsx" else "csv",
        columns=MappingProxyType(dict(column.split("=") for column in columns.split())),
        header_row=header_row,
        encoding="gb18030" if encoding == "gb18030" else "utf-8",
        byte_order_mark=encoding == "utf-8-sig",
        bin=f"6299{ordinal:02d}",
        account_length=16 + (ordinal + 2) % 4,
    )


LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {shape[0]: _layout(ordinal, *shape) for ordinal, shape in enumerate(_SHAPES, 1)}
)
