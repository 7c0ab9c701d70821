"""The documentation builds with every link good, and its reference is made from the code."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generated():
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if "WARN" in line or "ERR" in line)
    return folder


def test_the_site_builds_without_a_broken_link_or_a_page_outside_the_menu(site):
    assert (site / "tutorial" / "first-option.html").is_file()
    assert (site / "reference" / "cli.html").is_file()


def test_a_page_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]+)"', text)
        assert loaded == [], page


def test_every_command_is_in_the_reference(generated):
    text = generated["reference/cli.md"]
    for command in ("demo", "verify", "trace diff", "guest check", "options create", "parked requeue", "party offer"):
        assert f"`btcfi {command}`" in text
    assert "| `--depth` | execute |" in text


def test_every_error_class_is_in_the_reference_with_its_exit_code(generated):
    text = generated["reference/errors.md"]
    part = text.partition("## Exit code 70, HTTP 422")[2].partition("## Exit code")[0]
    assert "`MisalignedLoadError`" in part
    assert "`StepLimitError`" in part


def test_every_operation_and_schema_of_the_api_is_in_the_reference(generated):
    text = generated["reference/rest-operations.md"]
    assert "## POST `/api/option/create`" in text
    assert "### CreateOption" in text


def commands_in(text):
    """The btcfi commands of a page's shell listings: their words and their long options."""
    inside = shell = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
            shell = inside and line[3:] in ("", "console", "sh")
        elif shell and (found := re.match(r"(?:\$ )?btcfi ((?:[a-z][a-z-]+ ?)+)(.*)", line)):
            yield found[1].split(), re.findall(r"--[a-z-]+", line.partition("#")[0])


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md")), ids=str)
def test_every_command_that_a_page_prints_exists_with_its_options(page, generated):
    reference = generated["reference/cli.md"]
    for words, options in commands_in((DOCS / page).read_text(encoding="utf-8")):
        known = [n for n in (3, 2, 1) if re.search(rf"^#+ `btcfi {' '.join(words[:n])}`$", reference, re.MULTILINE)]
        assert known, f"{page}: btcfi {' '.join(words)}"
        name = " ".join(words[: known[0]])
        part = re.split(rf"^#+ `btcfi {name}`$", reference, flags=re.MULTILINE)[1].split("\n#")[0]
        for option in options:
            assert option in part, f"{page}: btcfi {name} {option}"
