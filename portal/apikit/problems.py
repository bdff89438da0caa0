"""Errors of the API as problem details."""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from portal.core.errors import ConflictError, PermissionRefusedError, PortalError, TransitionRefusedError


def _status_of(error: PortalError) -> int:
    if isinstance(error, PermissionRefusedError):
        return status.HTTP_403_FORBIDDEN
    if isinstance(error, (ConflictError, TransitionRefusedError)):
        return status.HTTP_409_CONFLICT
    return status.HTTP_422_UNPROCESSABLE_ENTITY


def problem_details(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer every error as application/problem+json with a stable `code`."""
    if isinstance(exc, PortalError):
        body = {
            "code": exc.code,
            "title": exc.message,
            "where": exc.where,
            "expected": exc.expected,
            "got": exc.got,
        }
        response = Response({"status": _status_of(exc), **body}, status=_status_of(exc))
    else:
        found = exception_handler(exc, context)
        if found is None:
            return None
        response = found
        codes = exc.get_codes() if isinstance(exc, exceptions.APIException) else "not_found"
        code = codes if isinstance(codes, str) else "invalid"
        response.data = {"status": response.status_code, "code": code, "title": code, "detail": response.data}
    response.content_type = "application/problem+json"
    return response
