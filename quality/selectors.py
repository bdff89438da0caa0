"""What quality counts: read-backs, wrong and bad cards, rates."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q

from production.choices import Outcome
from production.models import Batch, Card
from quality.choices import DefectKind, Liability
from quality.models import DEFECT_RATE_LIMIT, Defect

FINISHED = (Outcome.GOOD, Outcome.REJECTED, Outcome.UNKNOWN)


@dataclass(frozen=True, slots=True)
class DefectRate:
    """Wrong and bad cards against cards made (R-26)."""

    made: int
    wrong: int
    bad: int

    @property
    def rate(self) -> Decimal:
        """Return (wrong + bad) / made, 0 where nothing was made."""
        return Decimal(self.wrong + self.bad) / self.made if self.made else Decimal(0)

    @property
    def exceeded(self) -> bool:
        """Say whether the rate lies strictly above 0.1 %."""
        return self.rate > DEFECT_RATE_LIMIT

    @property
    def text(self) -> str:
        """Write the rate for people: 0.150 %."""
        return f"{self.rate * 100:.3f} %"


def defect_rate(batch: Batch) -> DefectRate:
    """Count the batch's defects; cards spoiled by wrong source data are not the supplier's (R-20)."""
    counts = Defect.objects.filter(card__batch=batch, liability=Liability.SUPPLIER).aggregate(
        wrong=Count("id", filter=Q(kind=DefectKind.WRONG_CARD)),
        bad=Count("id", filter=Q(kind=DefectKind.BAD_CARD)),
    )
    made = Card.objects.filter(batch=batch, outcome__in=FINISHED)
    # What its data did not allow was never made: it counts on neither side.
    supplied = made.exclude(defect__liability=Liability.SOURCE).count()
    return DefectRate(made=supplied, wrong=counts["wrong"], bad=counts["bad"])
