"""Admin of the stations app: the registry, the counter's page, what was made, blanks, cases and days."""

from stations.admin import blanks, cases, days, feeding, issuances, registry

__all__ = ["blanks", "cases", "days", "feeding", "issuances", "registry"]
