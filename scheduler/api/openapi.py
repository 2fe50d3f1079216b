"""Schemas for the documentation, made from the same types that the handlers read and write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args, get_origin

import msgspec

from dsched.scheduler.api.problem import JSON
from dsched.scheduler.api.route import Route
from dsched.scheduler.wire.api import Problem

_REF: Final = "#/components/schemas/{name}"


def document(base: dict[str, Any], table: Iterable[Route]) -> dict[str, Any]:
    """`base` as FastAPI makes it from the paths, with bodies, queries and answers filled in."""
    routes = [route for route in table if route.path in base["paths"]]
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
