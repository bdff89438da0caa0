"""What a report of an unexpected error shows: where it happened, never with which values (R-45)."""

from __future__ import annotations

from types import FrameType, TracebackType
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class WithoutValues(SafeExceptionReporterFilter):
    """Leave out local variables and posted values: any of them may be a person, a password or half a key.

    A developer's own debug page, with invented people, shows them as Django does.
    """

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        """Name what was posted and hide every value."""
        if request is None:
            return {}
        if not self.is_active(request):
            return dict(request.POST.items())
        return dict.fromkeys(request.POST, self.cleansed_substitute)

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType | TracebackType
    ) -> Any:
        """Show no variable of a frame."""
        if self.is_active(request):
            return []
        return super().get_traceback_frame_variables(request, tb_frame)
