"""What the demo leaves for its counter: people who are matched after the orders went out (R-14)."""

from __future__ import annotations

from itertools import islice

from orders.choices import CardKind, RecordStatus, UnmatchedReason
from orders.models import CardholderRecord
from orders.personal import open_number
from orders.services.accounts import upload_account_file
from portal.choices import Role
from portal.management.demo.programme import COUNTER_BANK
from portal.management.demo.steps import Demo, load_when_checked
from portal.management.demo.workers import last_task
from portal.samples.accounts import write_account_file
from portal.samples.layouts import LAYOUTS
from portal.samples.people import SamplePerson

MOST = 3


def match_late(demo: Demo) -> list[SamplePerson]:
    """Upload the accounts of a few people that the file of the counter's bank lacked; return who is matched.

    They wait for the counter, or for the next orders. Nobody, when no account of that bank was missing.
    """
    people = _without_account(demo)
    if not people:
        return []
    layout = LAYOUTS[people[0].bank_code]
    path = demo.folder / "accounts" / f"late-{layout.file_name}"
    write_account_file(path, layout, people, faults=False)
    bank, since = demo.programme.banks[layout.bank_code], last_task()
    with path.open("rb") as file:
        clerk = demo.programme.person(Role.BANK_CLERK, bank)
        uploaded = upload_account_file(file, file_name=path.name, bank=bank, actor=clerk)
    load_when_checked(demo, [uploaded.pk], since)
    matched = _numbers(demo, RecordStatus.MATCHED)
    return [person for person in people if person.number in matched]


def _without_account(demo: Demo) -> list[SamplePerson]:
    """Return the first people of the counter's bank who wait for an account and whose card shows a face."""
    assert demo.sample is not None
    waiting = _numbers(demo, RecordStatus.ACCEPTED)
    people = (person for person in demo.sample.people() if person.number in waiting)
    return list(islice((person for person in people if person.bank_code == COUNTER_BANK), MOST))


def _numbers(demo: Demo, status: RecordStatus) -> set[str]:
    found = CardholderRecord.objects.filter(package=demo.package, status=status, card_kind=CardKind.FINISHED)
    if status is RecordStatus.ACCEPTED:
        found = found.filter(unmatched_reason=UnmatchedReason.NO_ACCOUNT)
    return {open_number(record) for record in found.select_related("package")}
