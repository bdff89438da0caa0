"""The pages of production."""

from production.admin.batches import BatchAdmin
from production.admin.cards import CardAdmin, MachineFileAdmin, UnknownDecisionAdmin
from production.admin.delivery import CartonAdmin, DeliveryAdmin, ReceiptAdmin
from production.admin.destruction import (
    DestructionAlarmAdmin,
    DestructionCertificateAdmin,
    DestructionRequestAdmin,
)
from production.admin.papers import ReturnFileAdmin
from production.admin.plans import RosterMemberAdmin, WorkPlanAdmin
from production.admin.stock import StockLocationAdmin, StockLotAdmin, StockMovementAdmin, StockRequestAdmin
from production.admin.waste import CardDestructionAdmin

__all__ = [
    "BatchAdmin",
    "CardAdmin",
    "CardDestructionAdmin",
    "CartonAdmin",
    "DeliveryAdmin",
    "DestructionAlarmAdmin",
    "DestructionCertificateAdmin",
    "DestructionRequestAdmin",
    "MachineFileAdmin",
    "ReceiptAdmin",
    "ReturnFileAdmin",
    "RosterMemberAdmin",
    "StockLocationAdmin",
    "StockLotAdmin",
    "StockMovementAdmin",
    "StockRequestAdmin",
    "UnknownDecisionAdmin",
    "WorkPlanAdmin",
]
