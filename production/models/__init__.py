"""Models of the production app: stock, batches, cards, packing, delivery and destruction."""

from production.models.batches import Batch, BatchItem, RosterMember, WorkPlan
from production.models.cards import Card, MachineFile, UnknownDecision
from production.models.delivery import Carton, Delivery, Receipt, ReturnFile
from production.models.destruction import DestructionAlarm, DestructionCertificate, DestructionRequest
from production.models.stock import StockLocation, StockLot, StockMovement, StockRequest
from production.models.waste import CardDestruction

__all__ = [
    "Batch",
    "BatchItem",
    "Card",
    "CardDestruction",
    "Carton",
    "Delivery",
    "DestructionAlarm",
    "DestructionCertificate",
    "DestructionRequest",
    "MachineFile",
    "Receipt",
    "ReturnFile",
    "RosterMember",
    "StockLocation",
    "StockLot",
    "StockMovement",
    "StockRequest",
    "UnknownDecision",
    "WorkPlan",
]
