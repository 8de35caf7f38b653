"""Writes docs/real-agents.md and docs/real-doors.md from the results of a run: `python -m tests.agents.table RESULTS.json [FIGURES.txt]`.

Each is written if the run has results for it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
DOOR = "its own door"
"""Begins the properties of docs/real-doors.md."""
_ORDER = {"fails": 0, "holds": 1, "not tried": 2}


def main() -> int:
    """Write the pages."""
    run: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    figures = Path(sys.argv[2]).read_text().splitlines() if len(sys.argv) > 2 and Path(sys.argv[2]).exists() else []
    of_doors = [one for one in run["results"] if one["property"].startswith(DOOR) and one["outcome"] != "not tried"]
    of_agents = [one for one in run["results"] if not one["property"].startswith(DOOR)]
    if of_agents:
        spawns = [line for line in figures if "hand-over" not in line]
        write("real-agents.md", AGENTS, run["t"], of_agents, "Spawn to first answer, seconds, median and each:", spawns)
    if of_doors:
        proofs = [line for line in figures if "hand-over" in line]
        write(
            "real-doors.md",
            DOORS,
            run["t"],
            [*of_others((DOCS / "real-doors.md").read_text(), of_doors), *of_doors],
            "From hand-over to proof, beside typing in the same run:",
            [*figures_of_others((DOCS / "real-doors.md").read_text(), proofs), *proofs],
        )
    return 0


def of_others(former: str, run: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a former page says of the programs of which this run says nothing."""
    rows = [line.strip("| ").split(" | ") for line in former.splitlines() if line.startswith("| ")]
    tried = {one["program"] for one in run}
    outcomes = {text: outcome for outcome in _ORDER if (text := _cell(outcome)) != "–"}
    known = []
    for place, column in enumerate(rows[0][1:] if rows else (), 1):
        program, _, version = column.partition(" ")
        known += [
            {"program": program, "version": version, "property": row[0], "outcome": outcomes[row[place]]}
            for row in rows[1:]
            if program not in tried and row[place] in outcomes
        ]
    return known


def figures_of_others(former: str, proofs: list[str]) -> list[str]:
    """The figures of a former page about programs of which there are no new ones."""
    measured = {line.partition(" ")[0] for line in proofs}
    figures = [line for line in former.splitlines() if ": hand-over to proof, " in line and not line.startswith("|")]
    return [line for line in figures if line.partition(" ")[0] not in measured]


AGENTS = """# Real agents

Results of the last full run of `make test-agents`, {t}: the real programs from npm and PyPI, driven through the broker,
against a model server on loopback. `tests/agents/README.md` describes the method."""

DOORS = """# Doors of real programs

What holds of the programs' own doors (`--door`, ADR-0091, ADR-0094, ADR-0096), by the last run of each program's part of
`tests/agents/test_door_facts.py`, `test_doors.py` and `test_acp.py`, the newest {t}: the real programs against a model server on loopback.
claude has `claude_inbox` and, without a terminal, `stream_json` (`test_stream_json.py`, `test_stream_json_broker.py`); codex has
`codex_app_server`; the others speak the Agent Client Protocol without a terminal (`acp`)."""


def write(name: str, opening: str, day: str, results: list[dict[str, Any]], about: str, figures: list[str]) -> None:
    """Write one page."""
    (DOCS / name).write_text(page(opening.format(t=day), results, about, figures))
    print(f"{DOCS / name}: {len(results)} results")


def page(opening: str, results: list[dict[str, Any]], about: str, figures: list[str]) -> str:
    """The whole page."""
    columns = list(dict.fromkeys((one["program"], one["version"]) for one in results))
    cells: dict[tuple[str, str, str], str] = {}
    for one in results:
        key = (one["property"], one["program"], one["version"])
        cells[key] = min(cells.get(key, "not tried"), one["outcome"], key=_ORDER.__getitem__)
    rows = list(dict.fromkeys(one["property"] for one in results))
    lines = [
        "<!-- Made by `make test-agents`. Do not edit. -->",
        opening,
        "",
        f"| property | {' | '.join(f'{program} {version}' for program, version in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [f"| {row} | " + " | ".join(_cell(cells.get((row, *column))) for column in columns) + " |" for row in rows]
    if figures:
        lines += ["", about, "", "```", *figures, "```"]
    return "\n".join(lines) + "\n"


def _cell(outcome: str | None) -> str:
    return {"holds": "holds", "fails": "**fails**"}.get(outcome or "", "–")


if __name__ == "__main__":
    sys.exit(main())
