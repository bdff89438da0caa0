"""The programme as one organisation sees it beside its neighbours, and the texts of theirs it must not meet.

The demo's steps give rows of nearly every model to every bank and supplier; what they leave empty is planted
here from the model's own columns, so that a new model is covered on the day it is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from orders.choices import ContractStatus
from orders.models import CardholderRecord, Contract
from orders.personal import masked_name, masked_number, open_name, open_number, open_personal
from portal.catalogue import collected
from portal.choices import ADMINISTRATORS, OrganisationKind, Role
from portal.core.errors import PortalError
from portal.management.demo import steps
from portal.models import Organisation, User
from portal.samples.banks import BANKS
from portal.samples.package import SampleOrder
from portal.scoping import ScopedModel
from portal.services.people import ROLE_HOMES
from tests.architecture import programme_run
from tests.architecture.sources import APPS

RECORDS = 20
SHORTEST_IN_JSON = 6
# The second and the third of these banks choose the same supplier: neighbours as close as they get.
NEIGHBOURS = BANKS[2:6]
HOME_BANK = NEIGHBOURS[1].code
Key = tuple[str, Any]

# What planted rows need besides their columns' types, by model.
PLANTED: dict[str, dict[str, Any]] = {
    "production.CardDestruction": {"card_count": 1},
    "production.StockRequest": {"kind": "adjustment", "quantity": 1},
    "orders.AccountFile": {"row_count": None},
    "stations.StationDay": dict.fromkeys(("opening", "returned", "good", "rejected", "unknown"), 0),
}


@dataclass(frozen=True)
class Onlooker:
    """Somebody at home in one organisation: one person for each role, and one who holds them all."""

    home: Organisation
    roles: dict[str, User]
    everyone: User


def build(folder: Path) -> None:
    """Run the programme, half of it to the end, and plant what it leaves empty."""
    order = partial(SampleOrder, banks=NEIGHBOURS)
    with (
        mock.patch.object(steps, "SampleOrder", order),
        mock.patch.object(programme_run, "RECORDS", RECORDS),
    ):
        programme_run.run_programme(folder)
    plant(onlooker(OrganisationKind.SUPPLIER))
    plant(onlooker(OrganisationKind.BANK))
    Organisation.objects.create(
        kind=OrganisationKind.PROVINCE, code="GD-OTHER", name="另一发卡系统（演示）", short_name="另一系统"
    )
    plant(onlooker(OrganisationKind.PROVINCE))


def onlooker(kind: str) -> Onlooker:
    """Return the people of the organisation that looks at its neighbours."""
    home = _home(kind)
    roles = [role for role, homes in ROLE_HOMES.items() if kind in homes and role not in ADMINISTRATORS]
    people = {role: _person(home, f"onlooker-{role}.{home.code.lower()}", [role]) for role in roles}
    return Onlooker(home, people, _person(home, f"onlooker.{home.code.lower()}", roles))


def _home(kind: str) -> Organisation:
    if kind == OrganisationKind.PROVINCE:
        return Organisation.objects.get(code="GD-OTHER")
    bank = Organisation.objects.get(code=HOME_BANK)
    if kind == OrganisationKind.BANK:
        return bank
    return Organisation.objects.get(contracts__supplierchoice__bank=bank)


def _person(home: Organisation, username: str, roles: list[str]) -> User:
    user, _ = User.objects.get_or_create(
        username=username,
        defaults={
            "organisation": home,
            "roles": roles,
            "last_name": "旁观",
            "is_staff": Role.CARD_SYSTEM not in roles,
        },
    )
    return user


def scoped_models() -> list[type[ScopedModel]]:
    """Return every model whose rows belong to organisations, those that others point to first."""
    order = {"portal": 0, **{app: place for place, app in enumerate(APPS, 1)}}
    found = [model for model in apps.get_models() if issubclass(model, ScopedModel)]
    return sorted(found, key=lambda model: (order[model._meta.app_label], len(_parents(model))))


def _parents(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.fields if field.is_relation]


def divided(model: type[ScopedModel], user: User) -> tuple[models.QuerySet[Any], models.QuerySet[Any]]:
    """Return the rows that the user's organisation may see and those it may not."""
    visible = model.objects.visible_to(user)
    return visible, model.objects.exclude(pk__in=visible.values("pk"))


# --- planting ----------------------------------------------------------------------------------------------


def plant(looker: Onlooker) -> None:
    """Give both sides a row of every model that the organisation sees in part and that has none there."""
    kind = looker.home.kind
    waiting = [model for model in scoped_models() if model.VISIBLE_THROUGH.get(kind)]
    for _ in range(3):  # a planted row may be what the next model's row points to
        waiting = [model for model in waiting if not all(_planted(model, looker.everyone))]


def _planted(model: type[ScopedModel], user: User) -> Iterator[bool]:
    for ours in (True, False):
        visible, hidden = divided(model, user)
        yield (visible if ours else hidden).exists() or _plant_one(model, user, ours=ours)


def _plant_one(model: type[ScopedModel], user: User, *, ours: bool) -> bool:
    values: dict[str, Any] = {}
    home = user.organisation
    assert home is not None
    leads_home = model.VISIBLE_THROUGH[home.kind].split("__")[0]
    for field in model._meta.fields:
        if field.primary_key or field.generated or getattr(field, "auto_now_add", False):
            continue
        if field.null and field.name != leads_home:
            continue
        found = _value(field, user, ours=ours)
        if found is None:
            return False
        values[field.name] = found
    try:
        with transaction.atomic():
            model.objects.bulk_create([model(**values | PLANTED.get(model._meta.label, {}))])
    except (IntegrityError, TypeError, ValueError):
        return False
    return True


def _value(field: Any, user: User, *, ours: bool) -> Any:
    """Return something for a required column; None when it points to a row that is not there yet."""
    if field.is_relation:
        return _related(field, user, ours=ours)
    if field.choices:
        return field.get_default() or field.choices[0][0]
    if field.has_default():
        return field.get_default()
    if isinstance(field, ArrayField):
        return [_text(field.base_field, user, ours=ours)]
    if isinstance(field, (models.CharField, models.TextField)):
        return _text(field, user, ours=ours)
    if isinstance(field, models.BinaryField):
        return sha256(f"{field} {user.pk} {ours}".encode()).digest()
    return _plain(field)


def _text(field: Any, user: User, *, ours: bool) -> str:
    side = "own" if ours else "alien"
    return f"{side}-{user.pk}-{getattr(field, 'name', '')}-planted"[: field.max_length]


def _plain(field: Any) -> Any:
    kinds: tuple[tuple[type[Any], Any], ...] = (
        (models.BooleanField, False),
        (models.DateTimeField, timezone.now()),
        (models.DateField, timezone.localdate()),
        (models.DecimalField, 1),
        (models.JSONField, {}),
    )
    return next((value for kind, value in kinds if isinstance(field, kind)), 1)


def _related(field: Any, user: User, *, ours: bool) -> Any:
    remote = field.related_model
    if remote is User:
        people = User.objects.filter(is_system=False)
        return (people.filter if ours else people.exclude)(organisation=user.organisation).first()
    rows = remote._default_manager.all()
    kind = user.organisation.kind  # type: ignore[union-attr]
    if field.name == "bank" and user.organisation.kind != OrganisationKind.BANK:  # type: ignore[union-attr]
        rows = rows.filter(kind=OrganisationKind.BANK)
    elif issubclass(remote, ScopedModel) and remote.VISIBLE_THROUGH.get(kind):
        rows = divided(remote, user)[0 if ours else 1]
    if field.unique:
        rows = rows.exclude(pk__in=field.model._default_manager.values(field.name))
    return rows.order_by("pk").first()


# --- markers -----------------------------------------------------------------------------------------------


def markers(user: User) -> frozenset[str]:
    """Return the texts that stand in rows the user may not see and in none that he may.

    What a visible row points to may be named on its page: a card's order, its contract, who signed.
    """
    rows = {(model, row.pk): row for model in (*scoped_models(), User) for row in model._base_manager.all()}
    visible = {
        (model, pk)
        for model in scoped_models()
        for pk in model.objects.visible_to(user).values_list("pk", flat=True)
    }
    colleagues = User.objects.filter(organisation=user.organisation) | User.objects.filter(is_system=True)
    known = _closure(rows, visible | _public(user) | {(User, found.pk) for found in colleagues})
    ours = {text for key in known for text in _texts(rows[key])}
    theirs = {text for key, row in rows.items() if key not in known for text in _texts(row)}
    own_words = interface_words()
    return frozenset(text for text in theirs - ours if _is_telling(text) and text not in own_words)


@cache
def interface_words() -> str:
    """Return every text of the interface: a neighbour's location may be called what a column is called."""
    return "\n".join([*(f"{message.id}" for message in collected()), *Role.values])


def _public(user: User) -> set[Any]:
    """Return what everybody of a kind may know: banks choose among the suppliers in force (R-6)."""
    found: set[Any] = {(Organisation, pk) for pk in _of_kind(OrganisationKind.PURCHASER)}
    if user.organisation is not None and user.organisation.kind == OrganisationKind.PROVINCE:
        # Return files belong to the card system as such; each names the one it is sealed for.
        found |= {(Organisation, pk) for pk in _of_kind(OrganisationKind.PROVINCE)}
    if user.organisation is not None and user.organisation.kind == OrganisationKind.BANK:
        active = Contract.objects.filter(status=ContractStatus.ACTIVE)
        found |= {(Contract, pk) for pk in active.values_list("pk", flat=True)}
    return found


def _of_kind(kind: str) -> Iterable[int]:
    return Organisation.objects.filter(kind=kind).values_list("pk", flat=True)


def _closure(rows: dict[Any, models.Model], start: set[Any]) -> set[Any]:
    known, waiting = set(start), list(start)
    while waiting:
        row = rows[waiting.pop()]
        for field in _parents(type(row)):
            key = (field.related_model, getattr(row, field.attname))
            if key in rows and key not in known:
                known.add(key)
                waiting.append(key)
    return known


def _texts(row: models.Model) -> Iterator[str]:
    yield str(row)
    if isinstance(row, User):
        yield row.username
        return
    for field in row._meta.fields:
        value = getattr(row, field.attname)
        if isinstance(field, (models.CharField, models.TextField)) and not field.choices:
            yield value or ""
        elif isinstance(field, (ArrayField, models.JSONField)):
            yield from _leaves(value)
    if isinstance(row, CardholderRecord):
        yield from personal(row)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # Keys and words of a program's own stand in JSON too; what tells one row from another has numbers.
        is_word = value.isascii() and not any(letter.isdigit() for letter in value)
        yield "" if is_word or len(value) < SHORTEST_IN_JSON else value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def personal(record: CardholderRecord) -> Iterator[str]:
    """Yield a record's number, name and card number, and the masks of them; nothing once destroyed."""
    for opened in (open_number, open_name, masked_number, masked_name):
        try:
            yield opened(record)
        except PortalError:
            return
    try:
        yield open_personal(record).card_number
    except (PortalError, ValueError):
        return


def _is_telling(text: str) -> bool:
    """Leave out what is too short to be told from the page's own words and numbers."""
    if not text.isascii():
        return len(text) >= 3
    return len(text) >= (5 if any(letter.isalpha() for letter in text) else 8)
