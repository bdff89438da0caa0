"""Row visibility as a queryset method (D12): admin, API, downloads, search and counts all start from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from django.db import models

if TYPE_CHECKING:
    from portal.models import User

M = TypeVar("M", bound=models.Model)


class ScopedQuerySet(models.QuerySet[M]):
    """Querysets that know which rows an organisation may see."""

    def visible_to(self, user: User) -> Self:
        """Keep the rows of the user's organisation; nothing for a user without one.

        The model's VISIBLE_THROUGH maps an organisation kind to the lookup path that ends at the
        organisation; "" means every row, a missing kind means none.
        """
        if not user.is_active:
            return self.none()
        if user.is_system:
            return self.all()
        if user.organisation is None or not user.organisation.is_active:
            return self.none()
        through: Mapping[str, str] = getattr(self.model, "VISIBLE_THROUGH", {})
        path = through.get(user.organisation.kind)
        if path is None:
            return self.none()
        return self.all() if path == "" else self.filter(**{path: user.organisation_id})


class ScopedModel(models.Model):
    """A model whose rows belong to organisations; says through which path each kind sees them."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": ""}
    objects: ClassVar[Any] = ScopedQuerySet.as_manager()

    class Meta:
        abstract = True
