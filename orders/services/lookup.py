"""Find a person's records by exact value, and open a returned row for correction; both are events (R-45)."""

from __future__ import annotations

from dataclasses import dataclass

from orders.choices import RecordStatus
from orders.models import CardholderRecord
from orders.personal import card_number_index, name_index, number_index, open_problems, open_source
from portal.audit import unit_of_work
from portal.core.errors import InputRefusedError, TransitionRefusedError
from portal.core.problems import Problem
from portal.models import User
from portal.roles import require

MOST_FOUND = 50


class SearchRefusedError(InputRefusedError):
    """A search without a value to look for."""

    code = "search_empty"


@dataclass(frozen=True, slots=True, repr=False)
class OpenedRow:
    """A returned row as it came, by column code, and what is wrong with it."""

    source: dict[str, str]
    problems: list[Problem]


def find_records(
    *, number: str = "", card_number: str = "", name: str = "", actor: User
) -> list[CardholderRecord]:
    """Find records by exact number, card number or name through the blind index; newest first, at most 50.

    Several values must all fit. The audit keeps which columns were asked and how many rows came, no value but
    the pseudonym of whom it was.
    """
    require(actor, "orders.view_cardholderrecord")
    asked = {
        "number_index": number.strip() and number_index(number),
        "card_number_index": card_number.strip() and card_number_index(card_number),
        "name_index": name.strip() and name_index(name),
    }
    wanted = {column: index for column, index in asked.items() if index}
    if not wanted:
        raise SearchRefusedError("请至少填写一项", expected="社会保障号码、社会保障卡号或姓名")
    with unit_of_work(actor) as work:
        rows = CardholderRecord.objects.visible_to(actor).filter(**wanted)
        found = list(rows.select_related("package", "bank", "order").order_by("-id")[:MOST_FOUND])
        person = {"person": wanted["number_index"].hex()} if "number_index" in wanted else {}
        work.record("record.searched", None, columns=sorted(wanted), found=len(found), **person)
    return found


def view_record(record: CardholderRecord, *, actor: User) -> None:
    """Note that somebody opened a person's page, masked as it is (R-45)."""
    require(actor, "orders.view_cardholderrecord", record)
    with unit_of_work(actor) as work:
        work.record("record.viewed", record, person=bytes(record.number_index).hex())


def open_for_correction(record: CardholderRecord, *, actor: User) -> OpenedRow:
    """Show a returned row as it came to the person who will correct it (补录)."""
    require(actor, "orders.correct_record", record)
    if record.status != RecordStatus.RETURNED:
        raise TransitionRefusedError(
            "只有退回的记录可以补录",
            expected=str(RecordStatus.RETURNED.label),
            got=str(record.get_status_display()),
        )
    with unit_of_work(actor) as work:
        opened = OpenedRow(open_source(record), open_problems(record))
        work.record("record.opened_for_correction", record, person=bytes(record.number_index).hex())
    return opened
