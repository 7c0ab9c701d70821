"""The pages that are made from the code each time the site is built, so that they cannot differ from it.

A hook of mkdocs (mkdocs.yml). Links in hand-written pages to files outside ``docs/`` work in a checkout; here they are
turned to the page that the site has in their place.
"""

# ruff: noqa: INP001 - loaded by path
from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import btcfi
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import BTC_USD
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.status import status_of
from workers.cli import every_command

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]

ELSEWHERE: Final = {
    "../settings/README.md": "reference/settings.md",
    "../guest_programs/README.md": "reference/guest-programs.md",
    "../RELEASING.md": "reference/releasing.md",
    "../SECURITY.md": "reference/security.md",
    "decisions": "reference/decisions.md",
}
"""Target of a link in a checkout -> page of the site; both seen from docs/."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every page that the menu does not name at its end: a new page is never left out."""
    nav: list[Any] = config.nav or []
    named = set(re.findall(r"[\w./-]+\.md", str(nav)))
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.name not in named:
            nav[-1]["Explanation"].insert(-1, path.name)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - tests read the pages without mkdocs

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names them
    """Turn links to files outside docs/ to the site's pages."""
    up = "../" * page.file.src_uri.count("/")
    for target, place in ELSEWHERE.items():
        markdown = re.sub(rf"\]\({re.escape(up + target)}(#[^)]*)?\)", rf"]({up}{place}\1)", markdown)
    return markdown


def pages() -> dict[str, str]:
    """Return every generated page by its place."""
    return {
        "reference/cli.md": command_line(),
        "reference/errors.md": errors(),
        "reference/rest-operations.md": rest_operations(),
        "reference/metrics.md": metrics(),
        "reference/settings.md": (ROOT / "settings" / "README.md").read_text(encoding="utf-8"),
        "reference/guest-programs.md": (ROOT / "guest_programs" / "README.md").read_text(encoding="utf-8"),
        "reference/decisions.md": decisions(),
        "reference/releasing.md": _root_page("RELEASING.md"),
        "reference/security.md": _root_page("SECURITY.md"),
    }


def command_line() -> str:
    """Return every command with its arguments and options, from the typer app."""
    lines = [
        "# Command line",
        "",
        "Every command of `btcfi`, from the program itself; `btcfi COMMAND --help` says the same. Expected errors are",
        "one line on stderr and an [exit code](errors.md). `--json` prints one JSON object and nothing else.",
        "",
    ]
    _commands(every_command(), "btcfi", lines)
    return "\n".join(lines)


def _commands(group: Any, path: str, lines: list[str]) -> None:  # noqa: ANN401 - typer's copy of click has no public types
    depth = "#" * (1 + len(path.split()))
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        lines += [f"{depth} `{path} {name}`", "", _line(command.help or ""), ""]
        if hasattr(command, "commands"):
            _commands(command, f"{path} {name}", lines)
            continue
        rows = [_parameter(one) for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        if rows:
            lines += ["| argument or option | default | meaning |", "| --- | --- | --- |", *rows, ""]


def _parameter(one: Any) -> str:  # noqa: ANN401 - as above
    if one.param_type_name == "argument":
        spelled = one.name.upper() if one.required else f"[{one.name.upper()}]"
    else:
        spelled = ", ".join([*one.opts, *one.secondary_opts])
    default = one.default
    if default in (None, "", False, ()) or callable(default):
        default = ""
    return f"| `{spelled}` | {'required' if one.required else _line(str(default))} | {_line(one.help or '')} |"


def errors() -> str:
    """Return every public error with the exit code, HTTP and gRPC status that the outside sees, and what it means."""
    lines = [
        "# Errors and exit codes",
        "",
        "Every expected error ends a command with one line on stderr and its exit code; the REST API answers with",
        "`application/problem+json`, gRPC with a status. One table decides (`btcfi/surfaces/status.py`); a class",
        "without a row of its own has its nearest ancestor's. This page lists all of them. Beside these: 0 is success,",
        "74 means that the operating system refused to read or write, 130 interrupted.",
        "",
    ]
    found: dict[tuple[int, int, str], list[str]] = {}
    for kind in sorted(_error_classes(), key=lambda one: one.__name__):
        row = status_of(kind.__new__(kind))
        meaning = (kind.__doc__ or "").strip().splitlines()[0] if kind.__doc__ else ""
        entry = f"| `{kind.__name__}` | `{kind.__module__}` | {_line(meaning)} |"
        found.setdefault((row.exit_code, row.http, row.grpc), []).append(entry)
    for (code, http, grpc), entries in sorted(found.items()):
        lines += [
            f"## Exit code {code}, HTTP {http}, gRPC {grpc}",
            "",
            "| error | where | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [*entries, ""]
    return "\n".join(lines)


def _error_classes() -> set[type[BtcfiError]]:
    for package in (btcfi,):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: set[type[BtcfiError]] = set()
    waiting = [BtcfiError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("btcfi.") and not kind.__name__.startswith("_"):
            found.add(kind)
        waiting += kind.__subclasses__()
    return found


def rest_operations() -> str:
    """Return every operation of the OpenAPI document: parameters, bodies, answers."""
    nothing: Any = print  # an app without a store, a clock or a queue: only its document is read
    deps = Deps(
        store=Store("sqlite://"), clock=nothing, monotonic=float, new_id=str, create_option=nothing, submit=nothing,
        feed=BTC_USD,
    )  # fmt: skip
    document = create_app(deps).openapi()
    lines = [
        "# REST operations",
        "",
        "From the server's own OpenAPI document, which it serves at `/api/v1/openapi.json`. [REST API](../api.md) says",
        "what the fields mean.",
        "",
    ]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            lines += [
                f"## {method.upper()} `{path}`",
                "",
                _line(operation.get("description") or operation["summary"]),
                "",
            ]
            rows = [
                f"| `{one['name']}` | {one['in']}{', required' if one.get('required') else ''} | "
                f"{_line(one.get('description', ''))} |"
                for one in operation.get("parameters", [])
            ]
            if rows:
                lines += ["| parameter | in | meaning |", "| --- | --- | --- |", *rows, ""]
            body = operation.get("requestBody", {}).get("content", {})
            if body:
                lines += ["Body: " + ", ".join(f"`{kind}` {_schema(one)}" for kind, one in body.items()) + ".", ""]
            answers = ", ".join(f"{code} {_line(one['description'])}" for code, one in operation["responses"].items())
            lines += [f"Answers: {answers}.", ""]
    lines += ["## Schemas", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        fields = schema.get("properties", {})
        if "enum" in schema:
            lines += [f"### {name}", "", f"One of {_type(schema)}.", ""]
        elif fields:
            lines += [f"### {name}", "", "| field | type | meaning |", "| --- | --- | --- |"]
            lines += [
                f"| `{field}` | {_type(one)} | {_line(one.get('description', ''))} |" for field, one in fields.items()
            ]
            lines.append("")
    return "\n".join(lines)


def _schema(content: dict[str, Any]) -> str:
    reference = content.get("schema", {}).get("$ref", "")
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()})" if name else ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return " or ".join(_type(one) for one in parts)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    return str(schema.get("type", "anything"))


def metrics() -> str:
    """Return the table of docs/monitoring.md, which a test compares with the exporter."""
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = text.partition("## Every metric")[2]
    return f"# Metrics\n\nWhat `btcfi metrics` exports; [monitoring](../monitoring.md) says how to use it.{table}"


def decisions() -> str:
    """Return the list of decisions, each with its first sentence."""
    lines = [
        "# Decisions",
        "",
        "What others hang on: context, choice, what was given up. The numbers 0006 to 0030 never existed:",
        "after 0005 the next one was written as 0031.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        title = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
        lines.append(f"- [{title[2:]}](../decisions/{path.name})")
    return "\n".join(lines) + "\n"


def _root_page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](../")


def _line(text: str) -> str:
    """Return ``text`` on one line, fit for a table's cell."""
    return " ".join(text.split("\f", maxsplit=1)[0].split()).replace("|", "\\|")
