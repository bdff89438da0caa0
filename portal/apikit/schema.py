"""How the OpenAPI document describes what the kit adds (imported by PortalConfig.ready)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from portal.apikit.problems import CONTENT_TYPE
from portal.texts import told

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457；程序依据 code，人读 title、where、expected、got",
    "required": ["status", "code", "title"],
    "properties": {
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "title": {"type": "string"},
        "where": {"type": "string"},
        "expected": {"type": "string"},
        "got": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message"],
                "properties": {name: {"type": "string"} for name in ("field", "code", "message")},
            },
        },
    },
}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describe the bearer token in the OpenAPI document."""

    target_class = "portal.apikit.authentication.TokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the OpenAPI security scheme."""
        return {"type": "http", "scheme": "bearer"}


def describe_problems(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """Add to every operation that errors come as problem details."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM | {
        "description": told(_PROBLEM["description"])
    }
    answer = {
        "description": told("拒绝或错误"),
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = answer
    return result
