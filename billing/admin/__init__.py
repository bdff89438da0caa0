"""The pages of billing."""

from billing.admin.adjustments import AdjustmentAdmin
from billing.admin.statements import SettlementPeriodAdmin, StatementAdmin, StatementLineAdmin

__all__ = ["AdjustmentAdmin", "SettlementPeriodAdmin", "StatementAdmin", "StatementLineAdmin"]
