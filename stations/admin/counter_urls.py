"""Addresses of the counter's pages; they stand before the admin's own."""

from __future__ import annotations

from stations.admin import counter, counter_case, counter_issuance

urlpatterns = [*counter.urls(), *counter_issuance.urls(), *counter_case.urls()]
