"""What the agent must know before it starts, from the command line and the environment."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from portal.core.errors import PortalError
from stations.agent.client import is_loopback

HEARTBEAT_SECONDS = 10.0


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


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options, or raise IncompleteError with every one that is missing."""
    given = _parser(environment).parse_args(arguments)
    lacking: list[str] = []
    if not given.code:
        lacking.append("制卡点代码：--code 或环境变量 STATION_CODE")
    lacking += _portal_problems(given.portal)
    redis_url = environment.get("STATION_REDIS_URL", "")
    if not redis_url:
        lacking.append("任务队列地址：环境变量 STATION_REDIS_URL（含口令，因此不从命令行给出）")
    credential = _credential(given.credential_file, lacking)
    if not given.virtual:
        lacking.append("读写器：本机未连接读写器；演示请加 --virtual 使用虚拟读写器")
    if lacking:
        raise IncompleteError(lacking)
    return Options(given.code, given.portal, redis_url, credential, given.heartbeat_seconds)


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stations.agent", description="制卡点代理")
    parser.add_argument("--code", default=environment.get("STATION_CODE", ""), help="制卡点代码")
    parser.add_argument("--portal", default=environment.get("STATION_PORTAL", ""), help="门户地址 https://…")
    parser.add_argument(
        "--credential-file",
        default=environment.get("STATION_CREDENTIAL_FILE", ""),
        help="凭证文件，仅本用户可读",
    )
    parser.add_argument("--virtual", action="store_true", help="使用虚拟读写器和虚拟卡")
    parser.add_argument("--heartbeat-seconds", type=float, default=HEARTBEAT_SECONDS, help=argparse.SUPPRESS)
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
        lacking.append(f"凭证：无法读取文件 {name}（{type(exc).__name__}）")
        return ""
    if mode & 0o077:
        lacking.append(f"凭证：文件 {name} 的权限为 {mode:04o}，应为 0600")
    if not credential:
        lacking.append(f"凭证：文件 {name} 是空的")
    return credential
