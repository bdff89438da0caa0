"""Who sees which rows: always through the organisation, and nothing by default (D12)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import FieldDoesNotExist

from orders.models import AccountRow, DeliveryPoint, Package
from portal.choices import OrganisationKind
from portal.models import Organisation, User
from portal.scoping import ScopedModel


@dataclass
class Cast:
    """One organisation and one user of each kind, and a second bank."""

    users: dict[str, User]
    banks: list[Organisation]


@pytest.fixture
def people(db: None) -> Cast:
    users = {}
    for kind in OrganisationKind:
        organisation = Organisation.objects.create(kind=kind, code=f"O-{kind}", name=kind, short_name=kind)
        users[str(kind)] = User.objects.create(username=kind, organisation=organisation)
    other = Organisation.objects.create(kind="bank", code="O-other", name="other", short_name="other")
    return Cast(users, [Organisation.objects.get(code="O-bank"), other])


def points(user: User) -> list[str]:
    return list(DeliveryPoint.objects.visible_to(user).order_by("code").values_list("code", flat=True))


@pytest.fixture
def two_points(people: Cast) -> None:
    for number, bank in enumerate(people.banks):
        DeliveryPoint.objects.create(bank=bank, code=f"D{number}", name="D", address="D")


@pytest.mark.usefixtures("two_points")
class TestVisibleTo:
    def test_each_kind_through_its_path(self, people: Cast) -> None:
        """One bank never sees another; a kind the table does not name sees nothing."""
        seen = {kind: points(user) for kind, user in people.users.items()}
        assert seen == {
            "purchaser": ["D0", "D1"],
            "supplier": ["D0", "D1"],
            "bank": ["D0"],
            "province": [],
        }

    def test_nobody_without_an_active_account_and_organisation(self, people: Cast) -> None:
        clerk = people.users["purchaser"]
        assert points(User(username="x")) == []
        clerk.is_active = False
        assert points(clerk) == []
        clerk.is_active = True
        assert clerk.organisation is not None
        clerk.organisation.is_active = False
        assert points(clerk) == []
        assert points(AnonymousUser()) == []  # type: ignore[arg-type]

    def test_the_system_sees_everything(self) -> None:
        assert points(User.objects.system()) == ["D0", "D1"]

    def test_it_narrows_what_was_filtered_already(self, people: Cast) -> None:
        bank = people.users["bank"]
        assert DeliveryPoint.objects.filter(code="D1").visible_to(bank).count() == 0


def test_an_organisation_sees_itself(people: Cast) -> None:
    def seen(kind: str) -> list[str]:
        return sorted(Organisation.objects.visible_to(people.users[kind]).values_list("code", flat=True))

    assert seen("bank") == ["O-bank"]
    assert seen("province") == ["O-province"]
    assert len(seen("purchaser")) == 5


def test_packages_and_accounts_reach_only_whom_they_must(people: Cast) -> None:
    """R-22: suppliers see no package and nobody but the bank sees its accounts."""
    Package.objects.create(number="P", file_name="p", received_by=people.users["purchaser"])
    seen = {kind: Package.objects.visible_to(user).count() for kind, user in people.users.items()}
    assert seen == {"purchaser": 1, "supplier": 0, "bank": 0, "province": 0}
    assert set(AccountRow.VISIBLE_THROUGH) == {"bank"}


def scoped_models() -> list[type[ScopedModel]]:
    return [model for model in apps.get_models() if issubclass(model, ScopedModel)]


@pytest.mark.parametrize("kind", list(OrganisationKind))
def test_every_path_of_every_model_ends_at_an_organisation(people: Cast, kind: str) -> None:
    """A path with a slip in it would show at the first request of that kind of user only."""
    for model in scoped_models():
        assert set(model.VISIBLE_THROUGH) <= {str(kind) for kind in OrganisationKind}
        path = model.VISIBLE_THROUGH.get(kind)
        list(model.objects.visible_to(people.users[kind])[:1])
        if path:
            assert ends_at_organisation(model, path), (model, path)


def ends_at_organisation(model: type[ScopedModel], path: str) -> bool:
    found: type = model
    for name in path.split("__"):
        try:
            field = found._meta.get_field(name)  # type: ignore[attr-defined]
        except FieldDoesNotExist:
            return False
        if field.related_model is None:
            return found is Organisation and name == "id"
        found = field.related_model  # type: ignore[assignment]
    return found is Organisation
