"""Errors of the API as problem details (RFC 9457) with a stable `code`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from portal.core.errors import ConflictError, PermissionRefusedError, PortalError, TransitionRefusedError
from portal.refusals import record_refusal
from portal.texts import told

CONTENT_TYPE = "application/problem+json"
API = "/api/"


def status_of(error: PortalError) -> int:
    """Return the status of a refusal: 403, 409 for a state that changed, else 422."""
    if isinstance(error, PermissionRefusedError):
        return status.HTTP_403_FORBIDDEN
    if isinstance(error, (ConflictError, TransitionRefusedError)):
        return status.HTTP_409_CONFLICT
    return status.HTTP_422_UNPROCESSABLE_ENTITY


def problem_details(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer every expected error as application/problem+json; None lets an unexpected one through."""
    found = refusal(exc) if isinstance(exc, PortalError) else exception_handler(exc, context)
    if found is not None and found.status_code == status.HTTP_403_FORBIDDEN:
        record_refusal(context["request"], exc)
    if found is None or isinstance(exc, PortalError):
        return found
    found.data = {"status": found.status_code, **_body(exc)}
    found.content_type = CONTENT_TYPE
    return found


def refusal(error: PortalError) -> Response:
    """Answer a service's refusal: code for programs; message, where, expected and got for people."""
    number = status_of(error)
    more = {"where": error.where, "expected": error.expected, "got": error.got}
    body = {"status": number, "code": error.code, "title": told(error.message)}
    return Response(
        body | {name: told(value) for name, value in more.items() if value},
        status=number,
        content_type=CONTENT_TYPE,
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer an address that does not exist (handler404)."""
    if request.path.startswith(API):
        return _plain(404, "not_found", told("没有这个地址"))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer an unexpected error without a word about its cause (handler500)."""
    if request.path.startswith(API):
        return _plain(500, "server_error", told("服务器内部错误，已记录"))
    return defaults.server_error(request)


def _plain(number: int, code: str, title: str) -> JsonResponse:
    body = {"status": number, "code": code, "title": title}
    return JsonResponse(
        body, status=number, content_type=CONTENT_TYPE, json_dumps_params={"ensure_ascii": False}
    )


def _body(exc: Exception) -> dict[str, Any]:
    if isinstance(exc, exceptions.ValidationError):
        return {
            "code": "invalid",
            "title": told("请求内容不符合要求"),
            "errors": list(_fields(exc.get_full_details())),
        }
    if isinstance(exc, exceptions.APIException):
        codes = exc.get_codes()
        return {"code": codes if isinstance(codes, str) else "invalid", "title": str(exc.detail)}
    if isinstance(exc, Http404):
        return {"code": "not_found", "title": told("没有找到")}
    assert isinstance(exc, PermissionDenied), "exception_handler answers no other exception"
    return {"code": "permission_denied", "title": told("没有权限")}


def _fields(details: Any, where: str = "") -> Iterator[dict[str, str]]:
    """Yield field path, code and message of each finding of a serializer."""
    if isinstance(details, dict) and {"message", "code"} == set(details):
        yield {"field": where, "code": str(details["code"]), "message": str(details["message"])}
        return
    entries = details.items() if isinstance(details, dict) else enumerate(details)
    for name, inner in entries:
        # A list of messages about one field keeps the field's own path; a list of items is numbered.
        numbered = isinstance(name, str) or not _is_message(inner)
        path = f"{where}.{name}".lstrip(".") if numbered else where
        yield from _fields(inner, path)


def _is_message(details: Any) -> bool:
    return isinstance(details, dict) and {"message", "code"} == set(details)
