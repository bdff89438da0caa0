"""What every admin of the portal shares: scoped rows, read-only columns and verbs that call services."""

from portal.adminkit.base import EditableAdmin, ScopedAdmin, register
from portal.adminkit.verbs import VerbForm, verb

__all__ = ["EditableAdmin", "ScopedAdmin", "VerbForm", "register", "verb"]
