"""Admin of the kernel: organisations, people, tokens, background tasks and the audit."""

from django.contrib import admin
from django.contrib.auth.models import Group
from django_rq.models import Dashboard

from portal.admin import audit, keys, organisations, people, sessions, tasks, tokens

__all__ = ["audit", "keys", "organisations", "people", "sessions", "tasks", "tokens"]

admin.site.unregister(Group)
# django-rq lets everybody who may sign in see, delete and repeat jobs; tasks have a page of their own.
admin.site.unregister(Dashboard)
