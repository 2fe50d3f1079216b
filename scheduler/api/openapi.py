"""The documentation: paths by FastAPI from the table, schemas from the types that the handlers read and write.

Imported by the first who asks: FastAPI takes a quarter of a second and answers no other request.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, get_args, get_origin

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute

from dsched.scheduler.api.problem import JSON
from dsched.scheduler.api.route import Route
from dsched.scheduler.wire.api import Problem

_REF: Final = "#/components/schemas/{name}"
_INTERNAL: Final = "/agent/"  # a protocol between our own parts: not in the documentation
_NO_TELEMETRY: Final[Any] = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


@cache
def document(table: tuple[Route, ...]) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's of the paths, with bodies, queries and answers filled in."""
    routes = [route for route in table if not route.path.startswith(_INTERNAL)]
    app = FastAPI(title="dsched", routes=[_documented(route) for route in routes], telemetry=_NO_TELEMETRY)
    base = app.openapi()
    forms: dict[str, Any] = {"Problem": Problem}
    for route in routes:
        for form in (_item(route.answer), route.body):
            if form is not None:
                forms[form.__name__] = form
    schemas, components = msgspec.json.schema_components(forms.values(), ref_template=_REF)
    base.setdefault("components", {})["schemas"] = {
        **{name: schema for name, schema in zip(forms, schemas, strict=True) if "$ref" not in schema},
        **components,
    }
    for route in routes:
        _describe(base["paths"][route.path][route.method.lower()], route)
    return base


def _documented(route: Route) -> APIRoute:
    async def endpoint() -> None:
        raise AssertionError("described, never called")

    return APIRoute(
        route.path,
        endpoint,
        methods=[route.method],
        name=route.handler.__name__,
        summary=(route.handler.__doc__ or "").strip(),
        response_model=None,
        status_code=route.status,
    )


def _describe(operation: dict[str, Any], route: Route) -> None:
    if route.query is not None:
        operation["parameters"] = [
            *(made for made in operation.get("parameters", ()) if made["in"] == "path"),
            *_parameters(route.query),
        ]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(route.body)}}}
    success: dict[str, Any] = {"description": route.handler.__doc__ or ""}
    if route.answer is not None:
        success["content"] = {route.media: {"schema": _answer(route.answer)}}
    wrong = {"type": "object", "required": ["error"], "properties": {"error": _ref(Problem)}}
    operation["responses"] = {
        str(route.status): success,
        "default": {"description": "a Problem", "content": {JSON: {"schema": wrong}}},
    }


def _parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    schema = msgspec.json.schema_components([query], ref_template=_REF)[1][query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": form}
        for name, form in schema["properties"].items()
    ]


def _answer(form: Any) -> dict[str, Any]:
    if get_origin(form) is not list:
        return _ref(form)
    listed = {"type": "array", "items": _ref(_item(form))}
    return {"type": "object", "required": ["v", "items"], "properties": {"v": {"const": 1}, "items": listed}}


def _item(form: Any) -> Any:
    return get_args(form)[0] if get_origin(form) is list else form


def _ref(form: Any) -> dict[str, Any]:
    return {"$ref": _REF.format(name=form.__name__)}
