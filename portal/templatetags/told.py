"""Texts of services and kept texts of ours, in the reader's language, for templates."""

from __future__ import annotations

from typing import Any

from django import template

from portal.texts import told

register = template.Library()


@register.filter(name="told")
def told_filter(text: Any) -> str:
    """Return a text of ours in the reader's language."""
    return told(text)
