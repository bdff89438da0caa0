"""What the web server itself writes: gunicorn's access and error log, without what somebody typed (R-45).

A number may stand in an address, in a request line that is no request, or in an error's message; Django's own
logging (portal/reports.py) never sees these.
"""

from __future__ import annotations

import os
import re
from typing import Any

from gunicorn.glogging import Logger

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")  # the formatter asks whether it is DEBUG

from portal.reports import QuietFormatter, quiet_path

_INVALID = re.compile(r"(Invalid request from ip=[^:]*(?::[0-9a-f:.]*)?): .*", re.DOTALL)
_ATOMS_OF_REQUEST = frozenset("Ufrqu")


class QuietLog(Logger):  # type: ignore[misc]
    """Gunicorn's logger with our formatter, and with addresses as `quiet_path` gives them."""

    def setup(self, cfg: Any) -> None:
        """Set gunicorn's handlers up and give them our formatter."""
        super().setup(cfg)
        for log, text in ((self.error_log, self.error_fmt), (self.access_log, self.access_fmt)):
            for handler in log.handlers:
                handler.setFormatter(QuietFormatter(text, self.datefmt))

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """Return the values of the access log's format: of the request no more than method and quiet path."""
        found: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        found = {name: value for name, value in found.items() if not name.startswith("{")}
        quiet = quiet_path(str(environ.get("PATH_INFO", "")))
        return found | dict.fromkeys(_ATOMS_OF_REQUEST, "-") | {"U": quiet}

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Leave out the bytes that were no request."""
        super().warning(_INVALID.sub(r"\1", str(msg)), *args, **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Leave out the query of an address that could not be served, and an error's own words."""
        msg = type(msg).__name__ if isinstance(msg, BaseException) else msg
        super().exception(msg, *(quiet_path(arg) if isinstance(arg, str) else arg for arg in args), **kwargs)
