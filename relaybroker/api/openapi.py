"""The OpenAPI document of the local API, generated from the table of routes (`relaybroker.adapters.http.api.table`).

`GET /api/openapi.json` serves it and docs/openapi.json shows it; a test sends what it allows and forbids (schemathesis).

Source: spec/local-api.md section 1.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
from pydantic import BaseModel

from relaybroker import __version__
from relaybroker.adapters.http.api.page_sessions import is_of_page
from relaybroker.adapters.http.api.routing import Route
from relaybroker.adapters.http.api.table import ROUTES

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_ERROR: Schema = {
    "type": "object",
    "description": "The one error envelope (local-api.md section 1.1). Legacy keys may stand beside these.",
    "required": ["success", "code", "message", "error", "retryable", "statusCode"],
    "properties": {
        "success": {"const": False},
        "code": {"type": "string", "description": "Stable; clients decide by it."},
        "message": {"type": "string"},
        "error": {"description": "The message once more; an object for 401."},
        "retryable": {"type": "boolean"},
        "statusCode": {"type": "integer"},
    },
}


@functools.cache
def document() -> Schema:
    """The document, OpenAPI 3.1; made when it is first asked for."""
    shapes = [route.answer for route in ROUTES if route.answer is not None]
    answers, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    schemas: Schema = {"Error": _ERROR, **components}
    answer_of = dict(zip((route.key for route in ROUTES if route.answer is not None), answers, strict=True))
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, answer_of.get(route.key), schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "relaybroker local API", "version": __version__, "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route, answered: Schema | None, schemas: Schema) -> Schema:
    responses = {str(status): {"description": "Refused.", "content": _json("Error")} for status in route.errors}
    responses["503"] = {"description": "Starting (text), or stopping.", "content": _json("Error") | {"text/plain": {}}}
    if is_of_page(route.path):
        responses["401"] = {
            "description": "Not logged in: how to.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        }
    good: Schema = {"101": {"description": "A WebSocket."}}
    if answered is not None:
        good = {"200": {"description": "Done.", "content": {route.media: {"schema": answered}}}}
    made: Schema = {
        "operationId": re.sub(r"[^a-z]+", "_", route.key.lower()).strip("_"),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": good | responses,
    }
    if route.is_open:
        made["security"] = [{}]
    if route.body is not None and route.body.model_fields:
        schema = _component(route.body, schemas)
        made["requestBody"] = {"required": bool(schema.get("required")), "content": _json(route.body.__name__)}
    return made


def _component(model: type[BaseModel], schemas: Schema) -> Schema:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        assert schemas.get(name, part) == part, f"two shapes are called {name}"
        schemas[name] = part
    return schema


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _parameters(route: Route) -> list[Schema]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if route.query is None:
        return in_path
    properties = route.query.model_json_schema()["properties"]
    return in_path + [
        {"name": name, "in": "query", "schema": {key: value for key, value in schema.items() if key != "title"}}
        for name, schema in properties.items()
    ]
