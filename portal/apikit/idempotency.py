"""Requests that may be sent again: the same `Idempotency-Key` and body get the same answer.

The key's row is inserted first and commits together with what the request did. A second request with the
key waits on that row in the database, then finds the answer; a crash leaves neither key nor effect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import LockNotAvailable
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from portal.apikit.problems import CONTENT_TYPE, refusal
from portal.core.crypto import sm3_hasher
from portal.core.errors import ConflictError, InputRefusedError, PermissionRefusedError, PortalError
from portal.models import IdempotencyKey

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
WAIT = "30s"
CLEARED_AT_ONCE = 100
_KEY = re.compile(r"[!-~]{1,100}")


class KeyRefusedError(InputRefusedError):
    """An Idempotency-Key that is not 1 to 100 visible ASCII characters."""

    code = "idempotency_key_invalid"


class KeyReusedError(InputRefusedError):
    """The key was used for a different request before."""

    code = "idempotency_key_reused"


class RequestInProgressError(ConflictError):
    """The first request with this key is still being worked on."""

    code = "request_in_progress"


def answer_once(request: Request, act: Callable[[], Response]) -> Response:
    """Run `act`, or repeat the answer of the first request with this key.

    Refusals of a service are kept like successes; missing permission and unexpected errors are not, so
    that the request can be sent again with the same key once their cause is gone.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return act()
    if not _KEY.fullmatch(key):
        raise KeyRefusedError("幂等键不合要求", where=HEADER, expected="1 至 100 个可见的 ASCII 字符")
    digest = request_digest(request)
    with transaction.atomic():
        row, is_first = _claim(request, key, digest)
        if bytes(row.digest) != digest:
            raise KeyReusedError("该幂等键已用于另一请求", where=HEADER, expected="每个请求使用新的幂等键")
        return _act_and_keep(row, act) if is_first else _repeated(row)


def request_digest(request: Request) -> bytes:
    """Return the SM3 digest of method, path, fields and files of a request."""
    hasher = sm3_hasher()
    hasher.update(f"{request.method} {request.path}\n".encode())
    given: Any = request.data
    fields = _without_files(given) if isinstance(given, Mapping) else given
    hasher.update(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for name, file in sorted(request.FILES.items()):
        hasher.update(f"\n{name} {file.size} {file.name}\n".encode("utf-8", "surrogatepass"))
        for block in file.chunks(1 << 20):
            hasher.update(block)
        file.seek(0)
    return hasher.finalize()


def _without_files(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if not isinstance(value, UploadedFile)}


def _claim(request: Request, key: str, digest: bytes) -> tuple[IdempotencyKey, bool]:
    """Insert the key's row, waiting for a request that is inserting it; say whether this one is the first."""
    _clear_expired()
    row = IdempotencyKey(
        user=cast("Any", request.user), key=key, digest=digest, expires_at=timezone.now() + KEPT
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
        try:
            IdempotencyKey.objects.bulk_create([row], ignore_conflicts=True)
        except OperationalError as exc:
            if isinstance(exc.__cause__, LockNotAvailable):
                raise RequestInProgressError("同一幂等键的请求仍在处理，请稍后重试", where=HEADER) from exc
            raise
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    kept = IdempotencyKey.objects.select_for_update().get(user=row.user, key=key)
    return kept, kept.status is None


def _clear_expired() -> None:
    old = (
        IdempotencyKey.objects.select_for_update(skip_locked=True)
        .filter(expires_at__lte=timezone.now())
        .order_by("expires_at")
        .values_list("pk", flat=True)[:CLEARED_AT_ONCE]
    )
    IdempotencyKey.objects.filter(pk__in=list(old)).delete()


def _act_and_keep(row: IdempotencyKey, act: Callable[[], Response]) -> Response:
    try:
        response = act()
    except PermissionRefusedError:
        raise
    except PortalError as exc:
        response = refusal(exc)
    row.status, row.body = response.status_code, json.loads(JSONRenderer().render(response.data))
    row.save(update_fields=["status", "body"])
    return response


def _repeated(row: IdempotencyKey) -> Response:
    is_problem = row.status is not None and row.status >= 400
    return Response(
        row.body,
        status=row.status,
        content_type=CONTENT_TYPE if is_problem else None,
        headers={"Idempotency-Replayed": "true"},
    )
