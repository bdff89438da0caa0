"""The pages of quality, and what quality adds to the pages of production."""

from quality.admin.defects import DefectAdmin, DefectCodeAdmin
from quality.admin.extensions import InspectedBatchAdmin, InspectedCardAdmin
from quality.admin.inspections import HoldAdmin, InspectionAdmin

__all__ = [
    "DefectAdmin",
    "DefectCodeAdmin",
    "HoldAdmin",
    "InspectedBatchAdmin",
    "InspectedCardAdmin",
    "InspectionAdmin",
]
