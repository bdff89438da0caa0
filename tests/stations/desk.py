"""A station with its people for the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from rest_framework.test import APIClient

from portal.choices import Role
from portal.models import Organisation, User
from stations.models import Station
from stations.services.registry import enrol_station
from tests.orders.scene import make_organisation, make_user


@dataclass
class Desk:
    """An enrolled station of one supplier, and who deals with it."""

    station: Station
    credential: str = field(repr=False)
    supplier: Organisation
    operator: User
    security: User
    stranger: User

    def agent(self, code: str | None = None, credential: str | None = None) -> APIClient:
        """Return a client that calls as the station."""
        client = APIClient()
        client.credentials(
            HTTP_AUTHORIZATION=f"Station {code or self.station.code}:{credential or self.credential}"
        )
        return client


def make_desk() -> Desk:
    """Set the station up."""
    purchaser = make_organisation("purchaser", "GOV")
    supplier = make_organisation("supplier", "SUP1")
    station = Station.objects.create(code="demo-1", name="一号台", place="佛山", operator=supplier)
    security = make_user("security", purchaser, Role.SECURITY_ADMINISTRATOR)
    station, credential = enrol_station(station, actor=security)
    return Desk(
        station,
        credential,
        supplier,
        make_user("operator", supplier, Role.COUNTER_OPERATOR),
        security,
        make_user("stranger", make_organisation("supplier", "SUP2"), Role.COUNTER_OPERATOR),
    )
