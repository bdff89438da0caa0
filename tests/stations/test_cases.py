"""Emergency cases: entered by one, decided by another, then a record like any other (R-14)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from orders.choices import RecordStatus
from orders.models import CardholderRecord
from orders.personal import open_account, open_name, open_number, open_personal, read_photo
from orders.services.emergency import AccountRefusedError
from orders.services.refusals import AlreadyInProductionError, CorrectionRefusedError
from portal.choices import Role
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.core.keystore import KeyDestroyedError, KeyMissingError
from portal.models import AuditEntry, User
from stations.models import EmergencyCase
from stations.services.cases import (
    CaseOpenError,
    CasePerson,
    CaseRefusedError,
    decide_case,
    open_case,
    person_of,
    view_person,
)
from stations.services.issuance import confirm_look
from tests.refusals import refused
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import entered, made, photo

pytestmark = pytest.mark.django_db


@pytest.fixture
def counter() -> Counter:
    return make_counter()


def opened(counter: Counter, person: CasePerson | None = None, reason: str = "住院急用") -> EmergencyCase:
    return open_case(person or entered(), station=counter.station, reason=reason, actor=counter.operator)


class TestOpening:
    def test_what_was_entered_is_sealed_under_a_key_of_its_own(self, counter: Counter) -> None:
        """R-45: neither row nor audit holds number, name, account or photo."""
        person = entered()
        case = opened(counter, person)
        sealed = bytes(case.data_sealed or b"") + bytes(case.photo_sealed or b"")
        for secret in (person.row["AAC002"], person.row["AAC003"], person.account):
            assert secret.encode() not in sealed
            assert secret not in repr(person) + str(
                list(AuditEntry.objects.values_list("details", flat=True))
            )
        assert person_of(case) == person

    def test_an_approved_case_becomes_a_card_and_the_case_forgets(self, counter: Counter) -> None:
        person = entered()
        case = opened(counter, person)
        key_id = case.key_id
        with transaction.atomic():
            decided = decide_case(case, approve=True, text="核对无误", actor=counter.supervisor)
        record = decided.record
        assert record is not None
        assert (record.status, decided.data_sealed, decided.photo_sealed) == ("matched", None, None)
        assert (open_number(record), open_name(record)) == (person.row["AAC002"], person.row["AAC003"])
        assert (open_account(record), read_photo(record)) == (person.account, person.photo)
        assert open_personal(record).card_number == person.row["AAZ500"]
        assert decided.key_id == ""
        assert key_id
        done = confirm_look(made(counter, counter.start(record)), good=True, actor=counter.operator)
        assert done.status == "good"

    def test_a_refused_case_leaves_no_record_and_forgets(self, counter: Counter) -> None:
        case = opened(counter)
        decided = decide_case(case, approve=False, text="证件不符", actor=counter.supervisor)
        assert (decided.status, decided.record, decided.data_sealed) == ("refused", None, None)
        assert CardholderRecord.objects.count() == 0

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"AAC002": "44060019900101123"}, "AAC002"),
            ({"AAC002": ""}, "AAC002"),
            ({"AAC003": ""}, "AAC003"),
            ({"AAC003": "长" * 200}, "AAC003"),
            ({"AAC006": "1890-01-01"}, "AAC006"),
            ({"AAC058": "99"}, "AAC058"),
            ({"AAE008": "00000"}, "AAE008"),
            ({"branch": "Z999"}, "branch"),
            ({"card_kind": "gold"}, "card_kind"),
            ({"AAZ500": "!"}, "AAZ500"),
            ({"expiry_date": "2001-01-01"}, "expiry_date"),
        ],
    )
    def test_what_a_package_would_be_refused_for_is_refused_here(
        self, counter: Counter, changes: dict[str, str], field: str
    ) -> None:
        with refused(CorrectionRefusedError) as caught:
            opened(counter, entered(**changes))
        error = caught.value
        assert isinstance(error, CorrectionRefusedError)
        assert field in {problem.field for problem in error.problems}

    @pytest.mark.parametrize("picture", [b"", b"not a photo", b"\x89PNG\r\n\x1a\n", photo()[:-4000]])
    def test_a_photo_that_is_none_is_refused(self, counter: Counter, picture: bytes) -> None:
        """R-17: pixels, size and kind are those of every other photo."""
        with refused(CorrectionRefusedError) as caught:
            opened(counter, replace(entered(), photo=picture))
        assert isinstance(caught.value, CorrectionRefusedError)
        assert {problem.field for problem in caught.value.problems} == {"photo"}

    @pytest.mark.parametrize(
        "account", ["", "1" * 11, "1" * 20, "1" * 16, "6222021234567", "62220212345678901a3", "六" * 16]
    )
    def test_an_account_that_is_none_is_refused(self, counter: Counter, account: str) -> None:
        with refused(AccountRefusedError):
            opened(counter, replace(entered(), account=account))

    def test_without_a_reason_nothing_is_opened(self, counter: Counter) -> None:
        with refused(CaseRefusedError):
            opened(counter, reason=" ")

    def test_one_person_has_one_open_case(self, counter: Counter) -> None:
        opened(counter)
        with refused(CaseOpenError):
            opened(counter)

    def test_only_people_of_the_station_open_cases_and_only_for_their_bank(self, counter: Counter) -> None:
        other = User.objects.create(
            username="elsewhere", organisation=counter.world.other_planner.organisation,
            roles=[Role.COUNTER_OPERATOR],
        )  # fmt: skip
        for actor in (other, counter.world.clerk, counter.supervisor):
            with refused(PermissionRefusedError):
                open_case(entered(), station=counter.station, reason="急", actor=actor)


class TestDeciding:
    def both(self, counter: Counter) -> User:
        return User.objects.create(
            username="both", organisation=counter.world.bank,
            roles=[Role.COUNTER_OPERATOR, Role.COUNTER_SUPERVISOR],
        )  # fmt: skip

    def test_one_person_alone_is_refused(self, counter: Counter) -> None:
        person = self.both(counter)
        case = open_case(entered(), station=counter.station, reason="急", actor=person)
        for approve in (True, False):
            with refused(SamePersonError, audited=["second_person.refused"]):
                decide_case(case, approve=approve, text="无", actor=person)
        with pytest.raises(IntegrityError, match="emergency_case_two_people"), transaction.atomic():
            EmergencyCase.objects.filter(pk=case.pk).update(decided_by=person)

    def test_the_second_person_sees_what_was_entered_and_that_is_an_event(self, counter: Counter) -> None:
        case = opened(counter)
        assert view_person(case, actor=counter.supervisor) == person_of(case)
        entry = AuditEntry.objects.latest("position")
        assert (entry.action, entry.details) == (
            "emergencycase.viewed", {"person": bytes(case.number_index).hex()},
        )  # fmt: skip
        with refused(PermissionRefusedError):
            view_person(case, actor=counter.operator)

    def test_a_decision_is_final_and_nothing_can_be_looked_at_afterwards(self, counter: Counter) -> None:
        case = opened(counter)
        decide_case(case, approve=False, text="证件不符", actor=counter.supervisor)
        with refused(TransitionRefusedError):
            decide_case(case, approve=True, actor=counter.supervisor)
        with refused(CaseRefusedError):
            view_person(case, actor=counter.supervisor)
        case.refresh_from_db()
        with pytest.raises((KeyDestroyedError, KeyMissingError)):
            person_of(case)

    def test_a_refusal_says_why(self, counter: Counter) -> None:
        case = opened(counter)
        with refused(CaseRefusedError):
            decide_case(case, approve=False, text=" ", actor=counter.supervisor)

    def test_somebody_who_came_in_a_package_meanwhile_is_not_made_twice(self, counter: Counter) -> None:
        person = entered()
        case = opened(counter, person)
        record = counter.record()
        CardholderRecord.objects.filter(pk=record.pk).update(
            number_index=case.number_index, status=RecordStatus.MATCHED
        )
        with refused(AlreadyInProductionError):
            decide_case(case, approve=True, actor=counter.supervisor)
