"""What logs, error mails and error pages say of a fault: kind and place, never a value (R-45).

An unexpected error may quote what it stumbled over: a number in its message, a name in a local variable, a
whole form in the request. So none of these is written anywhere. What helps to find the fault are the kinds of
the errors, the places in the code, the route and the user's key; with PORTAL_DEBUG, which production does
not know, developers see the messages too.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import ItemsView, Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.log import AdminEmailHandler
from django.views.debug import SafeExceptionReporterFilter

from portal.core.errors import PortalError
from portal.core.idnumbers import mask_number

# The last net under what somebody logs by mistake: numbers of persons and accounts are 15 to 19 digits long.
_NUMBER_LIKE = re.compile(r"(?<![0-9A-Za-z])[0-9]{14,18}[0-9Xx](?![0-9A-Za-z])")
# Words of our own addresses and keys of rows; numbers of persons, cards and accounts have ten digits or more.
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]{0,64}")
_LONG_NUMBER = re.compile(r"[0-9]{10}")
_ADDRESS = re.compile(r"/\S*")
_DEEPEST = 5
Found = tuple[type[BaseException], BaseException, Any] | tuple[None, None, None]


def describe(error: BaseException) -> str:
    """Return an error with its causes as kinds, codes and places, without a word of their messages."""
    return "\n".join(_lines(error))


def _lines(error: BaseException, depth: int = 0) -> Iterator[str]:
    yield "Traceback (most recent call last; messages are left out):"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
    code = f" ({error.code})" if isinstance(error, PortalError) else ""
    yield f"{type(error).__module__}.{type(error).__qualname__}{code}"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _DEEPEST:
        yield "caused by"
        yield from _lines(cause, depth + 1)


def masked(text: str) -> str:
    """Mask whatever looks like a person's number or an account."""
    return _NUMBER_LIKE.sub(lambda found: mask_number(found[0]), text)


def quiet_path(path: str) -> str:
    """Return an address with `…` for each part that could be somebody's, and without its query."""
    parts = path.partition("?")[0].split("/")
    plain = (_PLAIN.fullmatch(part) and not _LONG_NUMBER.search(part) for part in parts)
    return "/".join(part if is_plain else "…" for part, is_plain in zip(parts, plain, strict=True))


def _quiet(argument: object) -> object:
    return (
        _ADDRESS.sub(lambda found: quiet_path(found[0]), argument) if isinstance(argument, str) else argument
    )


class QuietFormatter(logging.Formatter):
    """Format log records without the messages of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record; what another formatter cached of its exception is not used.

        What is logged of a request quotes its address, which somebody may have typed a name into.
        """
        kept, record.exc_text, record.args = (record.exc_text, record.args), None, self._arguments(record)
        try:
            return masked(super().format(record))
        finally:
            record.exc_text, record.args = kept

    @staticmethod
    def _arguments(record: logging.LogRecord) -> Any:
        if getattr(record, "request", None) is None or not isinstance(record.args, tuple):
            return record.args
        return tuple(_quiet(argument) for argument in record.args)

    def formatException(self, ei: Found) -> str:  # noqa: N802 - the name of the method that is overridden
        """Describe an exception."""
        if settings.DEBUG:
            return super().formatException(ei)
        return describe(ei[1]) if ei[1] is not None else ""


class QuietEmailHandler(AdminEmailHandler):
    """Mail a fault to ADMINS: kind and place, route and user, nothing of the request's content."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record as QuietFormatter writes it."""
        request: HttpRequest | None = getattr(record, "request", None)
        where = [f"{name}: {value}" for name, value in _where(request)]
        body = "\n".join([QuietFormatter("%(asctime)s %(levelname)s %(name)s").format(record), "", *where])
        self.send_mail(f"{record.levelname}: {record.name}", body, fail_silently=True)


def _where(request: HttpRequest | None) -> Iterator[tuple[str, object]]:
    """Yield method, route and user's key; the address itself may hold what somebody searched for."""
    if request is None:
        return
    match = request.resolver_match
    yield "method", request.method
    yield "route", match.route if match else "-"
    yield "user", getattr(getattr(request, "user", None), "pk", None)


class NothingShown(SafeExceptionReporterFilter):
    """Let Django's own reports show neither form, nor query, nor cookie, nor any variable, ever."""

    shown_meta = frozenset(
        {"REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "CONTENT_TYPE"}
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        """Say yes, with DEBUG too."""
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        """Keep the names of the fields."""
        return self._cleansed(request.POST) if request is not None else {}

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        """Keep what is no content and no credential."""
        return {name: value for name, value in request.META.items() if name in self.shown_meta}

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        """Keep the names of the cookies."""
        return self._cleansed(request.COOKIES)

    def get_safe_settings(self) -> dict[str, Any]:
        """Show no setting: addresses of databases and of keys are among them."""
        return {}

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        """Keep the names of the variables."""
        return self._cleansed(tb_frame.f_locals).items()

    def _cleansed(self, values: Any) -> dict[str, Any]:
        return dict.fromkeys(values, self.cleansed_substitute)
