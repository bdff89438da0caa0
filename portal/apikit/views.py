"""The base of every view over rows that belong to organisations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar, cast

from django.db import models
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from portal.apikit.idempotency import HEADER
from portal.apikit.throttles import UploadThrottle
from portal.apikit.uploads import refuse_too_large, to_disk, to_memory
from portal.models import User
from portal.roles import require

M = TypeVar("M", bound=models.Model)
KEY_PARAMETER = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 至 100 个可见 ASCII 字符；24 小时内同键同内容得到同一应答，同键异内容被拒绝",
)
FILE_RESPONSE = OpenApiResponse(OpenApiTypes.BINARY, description="文件内容")


class ScopedViewSet(GenericViewSet[M]):
    """Rows the user's organisation may see (D12), for users whose roles carry `permission`."""

    permission: ClassVar[str]
    lookup_value_regex = "[0-9]{1,18}"

    def body_limit(self) -> int:
        """Return how many bytes the body may have besides the frame of multipart; uploads take more."""
        return 0

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what is too long before anything reads it."""
        refuse_too_large(request, self.body_limit())
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        """Refuse before the body is read."""
        super().check_permissions(request)
        require(self.actor, self.permission)

    def get_queryset(self) -> QuerySet[M]:
        """Return the visible rows; another organisation's row is not found."""
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows.none()
        return cast("QuerySet[M]", rows.visible_to(self.actor))  # type: ignore[attr-defined]

    @property
    def actor(self) -> User:
        """Return who asks."""
        return cast("User", self.request.user)

    def chosen(self, rows: QuerySet[M], name: str, choices: type[models.TextChoices]) -> QuerySet[M]:
        """Keep the rows whose `name` is as the query asks; a value that does not exist is an error."""
        wanted = self.request.query_params.get(name)
        if wanted is None:
            return rows
        if wanted not in choices.values:
            raise ValidationError({name: f"应为 {'、'.join(choices.values)} 之一"})
        return rows.filter(**{name: wanted})


class UploadViewSet(ScopedViewSet[M]):
    """Rows of which `create` takes a file, counted apart from other requests."""

    upload_is_sealed: ClassVar[bool] = True  # and may lie on a disk; what is in the clear may not

    @abstractmethod
    def upload_limit(self) -> int:
        """Return how many bytes the file may have."""

    def get_throttles(self) -> list[Any]:
        """Count uploads apart."""
        return [UploadThrottle()] if self.action == "create" else super().get_throttles()

    def body_limit(self) -> int:
        """Return what an upload may have."""
        return self.upload_limit() if self.action == "create" else super().body_limit()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Choose where the upload goes before anything reads the body."""
        if self.action == "create":
            (to_disk if self.upload_is_sealed else to_memory)(request)
        super().initial(request, *args, **kwargs)


def choice_parameter(name: str, choices: type[models.TextChoices]) -> OpenApiParameter:
    """Describe a query parameter that takes one value of an enumeration."""
    return OpenApiParameter(name, OpenApiTypes.STR, enum=cast("Any", choices.values))
