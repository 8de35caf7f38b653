"""The documents say what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ADRS = sorted((ROOT / "ADR").glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
BOUNDS = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")


def test_no_number_of_a_decision_record_is_used_twice():
    assert len({path.name[:4] for path in ADRS}) == len(ADRS)


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.name[:4])
def test_a_decision_record_has_its_sections_and_its_number(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# ADR-{path.name[:4]}: ")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == ["Status", "Context", "Decision", "Consequences", "Alternatives"]


def test_the_readme_begins_with_the_two_commands():
    block = README.split("```")[1]
    commands = [line.split("#")[0].strip() for line in block.splitlines()[1:] if line.strip()]
    assert commands == ["make demo", "make test"]


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:domain|adapters|relaybroker)\.[a-z_.]+\.[A-Z_]+)`", BOUNDS)))
)
def test_every_bound_on_its_page_exists(name):
    module, _, constant = name.rpartition(".")
    assert hasattr(importlib.import_module(module), constant)


def test_every_decision_record_that_code_names_exists():
    numbers = {path.name[:4] for path in ADRS}
    sources = [path for folder in ("domain", "adapters", "relaybroker") for path in (ROOT / folder).rglob("*.py")]
    for path in sources:
        for number in re.findall(r"ADR-(\d{4})", path.read_text(encoding="utf-8")):
            assert number in numbers, path
