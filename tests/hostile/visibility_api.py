"""How the API is asked: rows of neighbours, own lists with their filters and cursors, agents of stations."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from portal.models import User
from stations.models import Station
from stations.services.registry import enrol_station
from tests.hostile.visibility_walk import Reader, Route, recipe, routes

MOST_PAGES = 3
PATTERNED = ("00", "9000", "0" * 16, "0" * 32, "0" * 64, "1", "a")  # what codes and digests look like


def api_routes(kind: str) -> list[Route]:
    """Return the routes of a recipe whose format suffix, if any, is left out."""
    return [route for route in routes() if recipe(route) == kind and "format" not in route.places]


def model_of(route: Route) -> Any:
    """Return the model whose rows the route is about."""
    return route.view_class.queryset.model


def methods(route: Route) -> list[str]:
    """Return what may be asked of the route, in lower case."""
    return [method for method in getattr(route.callback, "actions", {}) if method != "head"]


@cache
def schema() -> dict[str, Any]:
    """Return the API's description, made once."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


def sample_body(route: Route) -> dict[str, Any]:
    """Return a body that fits the schema of a POST, so that the answer is about the row and not the form."""
    form = re.sub(r"<[^>]+>", "{}", f"/{route.text}")
    for path, operations in schema()["paths"].items():
        if re.sub(r"\{[^}]+\}", "{}", path) == form and "requestBody" in operations.get("post", {}):
            content = operations["post"]["requestBody"]["content"]
            return dict(_sample(content["application/json"]["schema"]))
    return {}


def _sample(found: dict[str, Any]) -> Any:
    if "$ref" in found:
        return _sample(schema()["components"]["schemas"][found["$ref"].rpartition("/")[2]])
    if "enum" in found:
        return found["enum"][0]
    if "allOf" in found or "oneOf" in found:
        return _sample((found.get("allOf") or found["oneOf"])[0])
    if found.get("type") == "object":
        return {name: _sample(part) for name, part in found.get("properties", {}).items()}
    if found.get("type") == "array":
        return [_sample(found["items"])] * max(1, found.get("minItems", 0))
    if "pattern" in found:
        return next(text for text in PATTERNED if re.search(found["pattern"], text))
    plain = {"integer": found.get("minimum", 1), "number": 1, "boolean": True}
    return plain.get(found.get("type", ""), "00" * max(1, -(-found.get("minLength", 2) // 2)))


@cache
def filters() -> dict[str, list[dict[str, str]]]:
    """Return, by path, each query that the schema describes with a choice of values."""
    return {path: list(_queries(operations.get("get", {}))) for path, operations in schema()["paths"].items()}


def _queries(operation: dict[str, Any]) -> Iterator[dict[str, str]]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            for value in parameter.get("schema", {}).get("enum", ["1"]):
                yield {parameter["name"]: str(value)}


def forged_cursor(pk: int) -> str:
    """Return a cursor that points behind somebody else's row."""
    return b64encode(f"p={pk + 1}".encode()).decode()


def read_list(reader: Reader, route: Route, alien: int) -> Iterator[dict[str, Any]]:
    """Yield every row that a list gives: its pages one by one, each filter, and a forged cursor."""
    address = route.address()
    queries = [{"cursor": forged_cursor(alien)}, *filters().get(address, [])]
    for query in queries:
        answer = reader.get(address, query)
        yield from answer.json().get("results", []) if answer.status_code == 200 else []
    following: str | None = f"{address}?page_size=1"
    for _ in range(MOST_PAGES):
        if following:
            answer = reader.get(following)
            found = answer.json() if answer.status_code == 200 else {}
            yield from found.get("results", [])
            following = found.get("next")


def agent_of(station: Station) -> APIClient:
    """Return a client that calls as the station."""
    _, credential = enrol_station(station, actor=User.objects.system())
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Station {station.code}:{credential}")
    return client


def rows_of_other_stations(route: Route, station: Station) -> list[int]:
    """Return keys of the rows the route is about that are other stations', and one that nobody has."""
    named = [model for model in _of_stations() if model._meta.model_name in route.text.replace("-", "")]
    assert named, f"{route.text} names no model of the stations"
    model = max(named, key=lambda model: len(model._meta.model_name))
    others = model._default_manager.exclude(station=station)
    keys = list(others.order_by("-pk").values_list("pk", flat=True)[:MOST_PAGES])
    assert keys, f"no {model._meta.label} of another station"
    return [*keys, 999_999_999]


def _of_stations() -> Iterator[Any]:
    for model in apps.get_app_config("stations").get_models():
        if any(field.name == "station" for field in model._meta.fields):
            yield model
