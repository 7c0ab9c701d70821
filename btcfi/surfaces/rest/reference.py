"""The API's own reference page: drawn from the OpenAPI document, plain HTML and one style sheet, no script.

It stands on the console's origin, beside an operator's session: what it loads is ours, and works offline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from btcfi.surfaces.rest.auth import ROLE

HERE: Final = Path(__file__).parent
STYLE: Final = "reference.css"
Document = dict[str, Any]


def router(document: Callable[[], Document]) -> APIRouter:
    """Return the page and its style sheet, without a prefix. ``document``: gives the OpenAPI document."""
    routes = APIRouter(include_in_schema=False)
    drawn: list[str] = []

    @routes.get("/docs")
    async def page(request: Request) -> HTMLResponse:
        if not drawn:
            drawn.append(await run_in_threadpool(draw, document(), base=request.scope.get("root_path", "")))
        return HTMLResponse(drawn[0], headers={"Cache-Control": "no-cache"})

    @routes.get(f"/docs/{STYLE}")
    def style() -> Response:
        return Response(_style(), media_type="text/css", headers={"Cache-Control": "no-cache"})

    return routes


def draw(document: Document, *, base: str = "") -> str:
    """Return the page of a document. base: the path under which the service stands."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections: dict[str, list[Document]] = {}
    for one in _operations(document):
        sections.setdefault(one["tag"], []).append(one)
    records = [
        {"name": name, "about": schema.get("description", ""), "fields": list(_fields(schema, document))}
        for name, schema in sorted(document["components"]["schemas"].items())
        if "properties" in schema
    ]
    return environment.get_template("reference.html").render(
        info=document["info"],
        sections=sections,
        records=records,
        base=base,
        style=STYLE,
        linked={record["name"] for record in records},
    )


def _operations(document: Document) -> Iterator[Document]:
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield {
                "tag": said.get("tags", ["other"])[0],
                "id": said["operationId"],
                "method": method.upper(),
                "path": path,
                "about": said.get("description", said.get("summary", "")),
                "role": said.get(ROLE, "none"),
                "deprecated": said.get("deprecated", False),
                "parameters": [
                    {
                        "name": one["name"], "place": one["in"], "required": one.get("required", False),
                        "type": type_of(one["schema"], document), "record": _record(one["schema"]),
                        "about": one.get("description", one["schema"].get("description", "")),
                        "example": _example(one["schema"]),
                    }
                    for one in said.get("parameters", ())
                ],
                "body": _record(content.get("schema", {})) or type_of(content["schema"], document) if content else "",
                "answers": [
                    {"status": status, "about": one.get("description", ""), "record": _answer(one)}
                    for status, one in sorted(said["responses"].items())
                ],
            }  # fmt: skip


def _fields(schema: Document, document: Document) -> Iterator[Document]:
    required = set(schema.get("required", ()))
    for name, field in schema["properties"].items():
        whole = field
        if name_of := _record(field):
            whole = document["components"]["schemas"].get(name_of, {}) | field
        yield {
            "name": name, "required": name in required, "type": type_of(field, document), "record": _record(field),
            "about": whole.get("description", ""), "example": _example(whole),
            "deprecated": field.get("deprecated", False),
        }  # fmt: skip


def type_of(schema: Document, document: Document) -> str:
    """Return a schema's type in words; a record is its name, an enumeration its values."""
    if "$ref" in schema:
        name = _record(schema)
        whole = document["components"]["schemas"].get(name, {})
        return name if "properties" in whole else type_of(whole, document)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(one, document) for one in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}), document)}"
    words = str(schema.get("type", "any"))
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    bounds = [f"{word} {bound:.10g}" for word, bound in (("from", low), ("to", high)) if bound is not None]
    return " ".join([words, *bounds])


def _record(schema: Document) -> str:
    """Return the name of the record behind a schema, empty when there is none."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return _record(schema.get("items", {}))
    return next((name for one in schema.get("anyOf", ()) if (name := _record(one))), "")


def _answer(response: Document) -> str:
    return next((name for one in response.get("content", {}).values() if (name := _record(one.get("schema", {})))), "")


def _example(schema: Document) -> str:
    given = [*schema.get("examples", ()), *(e for one in schema.get("anyOf", ()) for e in one.get("examples", ()))]
    return "" if not given else str(given[0])


@cache
def _style() -> bytes:
    return (HERE / STYLE).read_bytes()
