"""What the agent must know before it starts, from the command line and the environment."""

from __future__ import annotations

import argparse
import importlib.util
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from portal.core.errors import PortalError
from stations.agent.client import is_loopback
from stations.virtual.faults import parse_fault

HEARTBEAT_SECONDS = 10.0
VIRTUAL_PRINTER = "virtual"
DRIVER = "smartcard"
NO_DRIVER = "读写器：本机没有安装 pyscard（pip install -r requirements-station.txt）；演示请加 --virtual"


class IncompleteError(PortalError):
    """The agent cannot start; `lacking` names everything that is missing or wrong, at once."""

    code = "station_incomplete"

    def __init__(self, lacking: Sequence[str]) -> None:
        super().__init__("制卡点代理不能启动")
        self.lacking = tuple(lacking)


@dataclass(frozen=True, slots=True)
class Options:
    """A complete set of options."""

    code: str
    portal: str
    redis_url: str = field(repr=False)
    credential: str = field(repr=False)
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    virtual: bool = False
    has_reader: bool = True
    reader: str = ""
    psam_reader: str = ""
    area: str = ""
    printer: str = ""
    printer_ca: str = ""
    turn_back: bool = False
    ca_file: str = ""
    journal: Path | None = None
    card_seconds: float = 120.0
    hopper: int = 0
    faults: tuple[str, ...] = ()


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options, or raise IncompleteError with every one that is missing."""
    given = _parser(environment).parse_args(arguments)
    lacking: list[str] = []
    if not given.code:
        lacking.append("制卡点代码：--code 或环境变量 STATION_CODE")
    lacking += _portal_problems(given.portal)
    lacking += _file_problems("门户证书的签发机构", given.ca_file)
    redis_url = environment.get("STATION_REDIS_URL", "")
    if not redis_url:
        lacking.append("任务队列地址：环境变量 STATION_REDIS_URL（含口令，因此不从命令行给出）")
    credential = _credential(given.credential_file, lacking)
    if not (given.virtual or given.no_reader) and importlib.util.find_spec(DRIVER) is None:
        lacking.append(NO_DRIVER)
    lacking += _printer_problems(given) + _fault_problems(given.virtual_fault)
    if lacking:
        raise IncompleteError(lacking)
    return _complete(given, redis_url, credential)


def _complete(given: argparse.Namespace, redis_url: str, credential: str) -> Options:
    printer = given.printer or (VIRTUAL_PRINTER if given.virtual else "")
    journal = Path(given.journal) if given.journal else Path(f"{given.credential_file}.journal")
    return Options(
        given.code,
        given.portal,
        redis_url,
        credential,
        given.heartbeat_seconds,
        virtual=given.virtual,
        has_reader=not given.no_reader,
        reader=given.reader,
        psam_reader=given.psam_reader,
        area=given.area,
        printer="" if given.no_printer else printer,
        printer_ca=given.printer_ca,
        turn_back=given.turn_back,
        ca_file=given.ca_file,
        journal=journal,
        card_seconds=given.card_seconds,
        hopper=given.virtual_hopper,
        faults=tuple(given.virtual_fault),
    )


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What exchanging a one-time code for a credential needs."""

    code: str
    portal: str
    ca_file: str
    credential_file: Path
    one_time: str = field(repr=False)


def read_enrolment(arguments: Sequence[str], environment: Mapping[str, str]) -> Enrolment | None:
    """Return what --enrol needs, None where it was not given; raise IncompleteError."""
    given = _parser(environment).parse_args(arguments)
    if not given.enrol:
        return None
    lacking = [] if given.code else ["制卡点代码：--code 或环境变量 STATION_CODE"]
    lacking += _portal_problems(given.portal)
    lacking += _file_problems("门户证书的签发机构", given.ca_file)
    if not given.credential_file:
        lacking.append("凭证：--credential-file 或环境变量 STATION_CREDENTIAL_FILE")
    if lacking:
        raise IncompleteError(lacking)
    return Enrolment(given.code, given.portal, given.ca_file, Path(given.credential_file), given.enrol)


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stations.agent", description="制卡点代理")
    texts = {
        "code": ("CODE", "制卡点代码"),
        "portal": ("PORTAL", "门户地址 https://…"),
        "ca-file": ("CA_FILE", "签发门户证书的机构的证书，不是公共机构时才需要"),
        "credential-file": ("CREDENTIAL_FILE", "凭证文件，仅本用户可读"),
        "reader": ("READER", "读写器的名称或其一部分；只有一台时不用"),
        "psam-reader": ("PSAM_READER", "插着 PSAM 的读写器；自检时双向认证"),
        "area": ("AREA", "本市六位区划代码，PSAM 分散密钥用"),
        "printer": ("PRINTER", "打印机 ipp://localhost/printers/队列 或 ipps://主机/ipp/print"),
        "printer-ca": ("PRINTER_CA", "打印机证书，或签发它的机构的证书"),
        "journal": ("JOURNAL", "正在制作的卡的记录；默认在凭证文件旁"),
    }
    for name, (variable, text) in texts.items():
        parser.add_argument(f"--{name}", default=environment.get(f"STATION_{variable}", ""), help=text)
    parser.add_argument("--virtual", action="store_true", help="使用虚拟读写器、虚拟卡和虚拟打印机")
    parser.add_argument(
        "--virtual-hopper", type=int, default=0, metavar="N", help="虚拟卡仓中的白卡张数，0 为不限"
    )
    parser.add_argument(
        "--virtual-fault", action="append", default=[], metavar="序列号:故障", help="演示：某张虚拟卡的故障"
    )
    parser.add_argument("--no-reader", action="store_true", help="本制卡点没有读写器")
    parser.add_argument("--no-printer", action="store_true", help="本制卡点没有打印机")
    parser.add_argument("--turn-back", action="store_true", help="测试卡的背面上下颠倒时：背面再转 180 度")
    parser.add_argument("--enrol", default="", metavar="CODE", help="用一次性登记码领取凭证，然后结束")
    parser.add_argument("--heartbeat-seconds", type=float, default=HEARTBEAT_SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--card-seconds", type=float, default=120.0, help="等待放卡的秒数")
    return parser


def _portal_problems(address: str) -> list[str]:
    if not address:
        return ["门户地址：--portal 或环境变量 STATION_PORTAL"]
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ["门户地址：应为 https://主机"]
    if parts.scheme == "http" and not is_loopback(address):
        return ["门户地址：凭证不能明文传输，须用 https（本机地址除外）"]
    return []


def _printer_problems(given: argparse.Namespace) -> list[str]:
    """Refuse an address that is none, and one that would carry faces in the clear (R-46)."""
    problems = _file_problems("打印机的证书", given.printer_ca)
    if given.no_printer or given.printer == VIRTUAL_PRINTER:
        if given.printer == VIRTUAL_PRINTER and not given.virtual:
            problems.append("打印机：虚拟打印机只用于演示，须同时加 --virtual")
        return problems
    if not given.printer:
        return (
            problems
            if given.virtual
            else [*problems, "打印机：--printer 或环境变量 STATION_PRINTER；确无打印机请加 --no-printer"]
        )
    parts = urlsplit(given.printer)
    if parts.scheme not in {"ipp", "ipps"} or not parts.hostname:
        problems.append("打印机：应为 ipp://localhost/printers/队列 或 ipps://主机/ipp/print")
    elif parts.scheme == "ipp" and not is_loopback(given.printer):
        problems.append("打印机：卡面不能明文传输，须用 ipps（本机的打印队列除外）")
    return problems


def _fault_problems(faults: Sequence[str]) -> list[str]:
    problems = []
    for fault in faults:
        try:
            parse_fault(fault.partition(":")[2])
        except ValueError as exc:
            problems.append(f"虚拟卡故障 {fault[:60]}：{exc}")
    return problems


def _file_problems(what: str, name: str) -> list[str]:
    if not name or Path(name).is_file():
        return []
    return [f"{what}：没有文件 {name}"]


def _credential(name: str, lacking: list[str]) -> str:
    """Read the credential; a file that others can read is as bad as none."""
    if not name:
        lacking.append("凭证：--credential-file 或环境变量 STATION_CREDENTIAL_FILE")
        return ""
    try:
        with Path(name).open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            credential = file.read(1024).strip()
    except (OSError, UnicodeDecodeError) as exc:
        lacking.append(f"凭证：无法读取文件 {name}（{type(exc).__name__}）；可用 --enrol 一次性登记码领取")
        return ""
    if mode & 0o077:
        lacking.append(f"凭证：文件 {name} 的权限为 {mode:04o}，应为 0600")
    if not credential:
        lacking.append(f"凭证：文件 {name} 是空的")
    return credential
