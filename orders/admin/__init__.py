"""Admin of the orders app: one module for each part of the work."""

from orders.admin import accounts, calendar, ordering, packages, programme, records, senders

__all__ = ["accounts", "calendar", "ordering", "packages", "programme", "records", "senders"]
