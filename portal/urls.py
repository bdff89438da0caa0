"""Addresses of the portal."""

from __future__ import annotations

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.utils.translation import gettext_lazy as _
from django.views.generic import RedirectView

from portal.adminkit.search import search


def _nothing(request: HttpRequest, **places: object) -> HttpResponse:
    """Answer 404 where Django's admin would look any row of any table up and say whether it is there."""
    raise Http404


admin.site.index_title = _("待办事项")

handler404 = "portal.apikit.problems.not_found"
handler500 = "portal.apikit.problems.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", include("portal.admin.account")),
    path("admin/counter/", include("stations.admin.counter_urls")),
    path("admin/search/", admin.site.admin_view(search)),
    path("admin/r/<int:content_type_id>/<path:object_id>/", _nothing),
    path("admin/", admin.site.urls),
    path("api/v1/", include("portal.api_urls")),
]
