"""Models of the stations app: where single cards are made, and each card made there."""

from stations.models.blanks import BlankRequest, StationBlank, StationDay
from stations.models.cases import EmergencyCase
from stations.models.feeding import FeederRun
from stations.models.issuance import Issuance, IssuanceStep
from stations.models.registry import SelfTest, Station

__all__ = [
    "BlankRequest",
    "EmergencyCase",
    "FeederRun",
    "Issuance",
    "IssuanceStep",
    "SelfTest",
    "Station",
    "StationBlank",
    "StationDay",
]
