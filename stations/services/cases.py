"""Emergency cases: one enters the person, another decides, and only then there is a record (R-14, D8)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.personal import number_index
from orders.services.emergency import admit_person, check_person
from orders.services.packages import undone_on_error
from portal import files
from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError
from portal.core.idnumbers import mask_number
from portal.core.keystore import KeyPurpose
from portal.core.names import mask_name
from portal.models import User
from portal.removal import remove_after_commit
from portal.roles import require, require_second_person
from portal.workflow import check_move, locked, move
from stations.choices import CaseStatus
from stations.models import EmergencyCase, Station
from stations.services.issuance import require_station


class CaseRefusedError(InputRefusedError):
    """A case without a reason."""

    code = "case_refused"


class CaseOpenError(ConflictError):
    """The same person has a case that waits for its decision."""

    code = "case_open"


@dataclass(frozen=True, slots=True)
class CasePerson:
    """What was entered for a person; nothing of it shows in a repr."""

    row: Mapping[str, str] = field(repr=False)
    photo: bytes = field(repr=False)
    account: str = field(repr=False)

    @property
    def masked(self) -> tuple[str, str]:
        """Return number and name as the second person sees them before asking for more."""
        return mask_number(self.row["AAC002"]), mask_name(self.row["AAC003"])


def open_case(person: CasePerson, *, station: Station, reason: str, actor: User) -> EmergencyCase:
    """Enter a person without a matched record; everything is checked now, and sealed until the decision."""
    require(actor, "stations.request_case", station)
    if not reason.strip():
        raise CaseRefusedError("应急制卡须说明事由")
    values = check_person(person.row, photo=person.photo, account=person.account)
    require_station(station, actor, values.bank_id)
    with undone_on_error() as undo, unit_of_work(actor) as work:
        key_id = files.keystore().create(KeyPurpose.PACKAGE, "case")
        undo.callback(files.keystore().destroy, key_id)
        try:
            with transaction.atomic():
                case = EmergencyCase.objects.create(
                    station=station,
                    bank_id=values.bank_id,
                    number_index=number_index(values.number),
                    key_id=key_id,
                    reason=reason.strip()[:200],
                    requested_by=actor,
                )
        except IntegrityError as exc:
            raise CaseOpenError("此人已有待复核的应急申请") from exc
        cipher = files.cipher(key_id)
        entered = {"row": dict(person.row), "account": person.account}
        case.data_sealed = cipher.seal(json.dumps(entered).encode(), _context(case, "data"))
        case.photo_sealed = cipher.seal(base64.b64encode(person.photo), _context(case, "photo"))
        case.save(update_fields=["data_sealed", "photo_sealed"])
        work.record("emergencycase.requested", case, reason=case.reason, person=case.number_index.hex())
    return case


def person_of(case: EmergencyCase) -> CasePerson:
    """Open what was entered; raise KeyDestroyedError once the case is decided."""
    cipher = files.cipher(case.key_id)
    entered = json.loads(cipher.open(bytes(case.data_sealed or b""), _context(case, "data")))
    photo = base64.b64decode(cipher.open(bytes(case.photo_sealed or b""), _context(case, "photo")))
    return CasePerson(entered["row"], photo, entered["account"])


def view_person(case: EmergencyCase, *, actor: User) -> CasePerson:
    """Show what was entered to whoever decides, so that it can be held against the person; an event."""
    require(actor, "stations.decide_case", case)
    with unit_of_work(actor) as work:
        fresh = locked(case)
        if fresh.status != CaseStatus.REQUESTED:
            raise CaseRefusedError("该申请已复核，资料已清除", got=str(fresh.get_status_display()))
        person = person_of(fresh)
        work.record("emergencycase.viewed", fresh, person=bytes(fresh.number_index).hex())
    return person


def decide_case(case: EmergencyCase, *, approve: bool, text: str = "", actor: User) -> EmergencyCase:
    """Approve or refuse as the second person; approval writes the record, either way the case forgets."""
    require(actor, "stations.decide_case", case)
    require_second_person(case.requested_by, actor)
    if not approve and not text.strip():
        raise CaseRefusedError("驳回须说明原因")
    target = CaseStatus.APPROVED if approve else CaseStatus.REFUSED
    with unit_of_work(actor):
        fresh = locked(case)
        check_move(fresh, target)
        record = None
        if approve:
            person = person_of(fresh)
            record = admit_person(
                person.row, photo=person.photo, account=person.account, reason=fresh.reason, actor=actor
            )
        key_id = fresh.key_id
        decided = move(
            fresh,
            target,
            actor=actor,
            details={"text": text.strip()[:200]},
            decided_by=actor,
            decided_at=timezone.now(),
            decision_text=text.strip()[:200],
            record=record,
            data_sealed=None,
            photo_sealed=None,
            key_id="",
        )
        remove_after_commit(keys=[key_id])
    return decided


def _context(case: EmergencyCase, column: str) -> bytes:
    return f"stations.emergencycase/{case.pk}/{column}".encode()
