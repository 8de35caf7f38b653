"""Everything that comments, docstrings, texts and documents name is there (see `tests/citations.py` for what that means)."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from tests.citations import (
    CODE,
    NOT_OURS,
    PRODUCT,
    ROOT,
    Passage,
    cited,
    documents,
    missing,
    of_code,
    of_comments,
    of_document,
    of_help,
    of_texts,
    sources,
    variables,
)

AT_LEAST = {
    "id": 1200,
    "section": 400,
    "document": 300,
    "decision": 180,
    "path": 350,
    "module": 100,
    "test": 150,
    "command": 200,
    "flag": 250,
    "variable": 100,
}
"""So many of each kind are found, at the least: a test that finds nothing to look up proves nothing."""
IN_TEXTS = frozenset({"command", "flag", "variable", "decision", "document", "issue"})
"""What is looked up in the texts of a program; what looks like an id or a path there may be data."""


class Looked(defaultdict[str, list[str]]):
    """What cannot be found, by kind, each with its place; and how many were looked up."""

    def __init__(self) -> None:
        super().__init__(list)
        self.counts: Counter[str] = Counter()
        self.names: set[str] = set()

    def up(self, passages: Iterable[Passage], *, in_tests: bool = False, kinds: frozenset[str] | None = None) -> None:
        """Look up what these passages name."""
        for place, text in passages:
            for citation in cited(text):
                if kinds is None or citation.kind in kinds:
                    self.counts[citation.kind] += 1
                    self.names.add(citation.name)
                    if why := missing(citation, in_tests=in_tests):
                        self[citation.kind].append(f"{place}: {why}")


@functools.cache
def looked() -> Looked:
    tally = Looked()
    for path in sources(*CODE):
        tally.up(of_code(path), in_tests=path.relative_to(ROOT).parts[0] not in PRODUCT)
    for path in sources(*PRODUCT):
        tally.up(of_texts(path), kinds=IN_TEXTS)
    for path in documents():
        tally.up(of_document(path), in_tests=path.relative_to(ROOT).parts[0] == "tests")
    tally.up(of_help())
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *sorted((ROOT / "adapters").rglob("*.toml"))):
        tally.up(of_comments(path), in_tests=True)
    return tally


@pytest.mark.parametrize("kind", [*AT_LEAST, "issue"])
def test_whatever_is_named_is_there(kind):
    assert looked()[kind] == []


@pytest.mark.parametrize("kind", AT_LEAST)
def test_there_is_something_to_look_up(kind):
    assert looked().counts[kind] >= AT_LEAST[kind]


def test_no_exception_outlives_its_reason():
    assert [name for name in NOT_OURS if name not in looked().names] == []


@pytest.mark.parametrize(
    "text",
    [
        "F044, U03 and B12; S20, W-12, RV-G2, A3, D1 to D8, X1-X5, F076-F079",
        "ACK-FLOOR holds; UTF-8, ISO-8601 and U+202A are no ids",
        "Source: spec/node-protocol.md sections 4.1, 4.2, 4.5 and 4.6; local-api.md routes 10 to 12 and section 6.3; checklist 9 and 10",
        "node-protocol.md appendix A, failure-scenarios.md 3.D and sections C and E, local-api 11.6",
        "D10, 4.9; ACK-FLOOR",
        'spec/real-agents.md ("Where an empty composer is")',
        "design/architecture.md section 4; docs/guarantees.md; ADR-0039",
        "domain/mailbox.py, harnesses/*.toml, fixtures/terminals/<cli>, proof.py",
        "`relaybroker.domain.mailbox.SEEN_WINDOW` and `relaybroker.adapters.sessions.terminal.harnesses.Profile.busy_patience_s`",
        "relaybroker log export --session -o incident.jsonl, then relaybroker agent spawn w1 --env KEY",
        "RELAYBROKER_IN_DOUBT, RELAY_BASE_URL and AGENT_RELAY_RESULT_*; --json",
    ],
)
def test_what_is_there_is_found(text):
    citations = list(cited(text))
    assert citations
    assert [why for citation in citations if (why := missing(citation))] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kept by F040", "id F040"),
        ("F076-F142", "id F142"),
        ("invariants D1 to D16", "id D16"),
        ("W-99", "id W-99"),
        ("SPEED-FIRST", "id SPEED-FIRST"),
        ("spec/node-protocol.md sections 4.1 and 4.13", "section node-protocol.md section 4.13"),
        ("F044, 4.13: as it was", "section node-protocol.md section 4.13"),
        ("node-protocol.md 6.5-6.12", "section node-protocol.md section 6.12"),
        ("engine-contract.md section 9", "section engine-contract.md section 9"),
        ("local-api.md route 31", "section local-api.md route 31"),
        ("local-api.md section 1.4; checklist 99", "section local-api.md checklist 99"),
        ("failure-scenarios.md section K", "section failure-scenarios.md section K"),
        ('real-agents.md ("Where nothing is")', 'section real-agents.md "Where nothing is"'),
        ("spec/feature-parity.md", "document spec/feature-parity.md"),
        ("see docs/nowhere.md", "document docs/nowhere.md"),
        ("ADR-0099", "decision ADR-0099"),
        ("the rule is in domain/letterbox.py", "path domain/letterbox.py"),
        ("letterbox.py has it", "path letterbox.py"),
        ("kept by `test_that_pigs_fly`", "test test_that_pigs_fly"),
        ("`relaybroker.domain.mailbox.SEEN_WINDOWS`", "module relaybroker.domain.mailbox.SEEN_WINDOWS"),
        ("relaybroker agent spwan", "command relaybroker agent spwan"),
        ("relaybroker log export --seesion FILE", "option --seesion of relaybroker log export"),
        ("relaybroker agent ls --session", "option --session of relaybroker agent ls"),
        ("choose the policy with --in-doubt.", "flag --in-doubt"),
        ("allow it with RELAYBROKER_AUTO_REPLY.", "variable RELAYBROKER_AUTO_REPLY"),
        ("issue 12, part 3", "issue issue 12"),
        ('Source: issue "audit".', 'issue issue "audit"'),
    ],
)
def test_what_is_not_there_is_told(text, why):
    assert why in [missing(citation) for citation in cited(text)]


def test_every_variable_of_ours_is_described():
    described = {
        citation.name for path in documents() for passage in of_document(path) for citation in cited(passage.text)
    }
    ours = {
        name
        for name in variables(*PRODUCT)
        if name.startswith(("RELAY_", "RELAYBROKER_", "RELAYCAST_", "AGENT_RELAY_"))
    }
    assert sorted(name for name in ours if name.rstrip("_") == name and name not in described) == []


def test_every_link_of_a_document_leads_to_a_file():
    links = [
        (path, target)
        for path in documents()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8"))
        if ":" not in target
    ]
    assert len(links) > 60
    assert [
        f"{path.relative_to(ROOT)}: {target}" for path, target in links if not (path.parent / target).exists()
    ] == []
