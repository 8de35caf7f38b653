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
            of_doors,
            "From hand-over to proof, beside typing in the same run:",
            proofs,
        )
    return 0


AGENTS = """# Real agents

Results of the last full run of `make test-agents`, {t}: the real programs from npm and PyPI, driven through the broker,
against a model server on loopback. `tests/agents/README.md` describes the method."""

DOORS = """# Doors of real programs

What holds of the programs' own doors (`--door`, `ADR/0091-doors-of-claude-code-and-codex.md`), by the last run of
`tests/agents/test_door_facts.py` and `tests/agents/test_doors.py`, {t}: the real programs against a model server on loopback.
claude has `claude_inbox`, codex has `codex_app_server`."""


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
