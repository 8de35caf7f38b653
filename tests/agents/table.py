"""Writes docs/real-agents.md from the results of a run: `python -m tests.agents.table RESULTS.json [FIGURES.txt]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "real-agents.md"
_ORDER = {"fails": 0, "holds": 1, "not tried": 2}


def main() -> int:
    """Write the page."""
    run: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    figures = Path(sys.argv[2]).read_text() if len(sys.argv) > 2 and Path(sys.argv[2]).exists() else ""
    PAGE.write_text(page(run, figures))
    print(f"{PAGE}: {len(run['results'])} results")
    return 0


def page(run: dict[str, Any], figures: str) -> str:
    """The whole page."""
    columns = list(dict.fromkeys((one["program"], one["version"]) for one in run["results"]))
    cells: dict[tuple[str, str, str], str] = {}
    for one in run["results"]:
        key = (one["property"], one["program"], one["version"])
        cells[key] = min(cells.get(key, "not tried"), one["outcome"], key=_ORDER.__getitem__)
    rows = list(dict.fromkeys(one["property"] for one in run["results"]))
    lines = [
        "<!-- Made by `make test-agents`. Do not edit. -->",
        "# Real agents",
        "",
        f"Results of the last full run of `make test-agents`, {run['t']}: the real programs from npm and PyPI, driven through the broker,",
        "against a model server on loopback. `tests/agents/README.md` describes the method.",
        "",
        f"| property | {' | '.join(f'{program} {version}' for program, version in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [f"| {row} | " + " | ".join(_cell(cells.get((row, *column))) for column in columns) + " |" for row in rows]
    if figures:
        lines += ["", "Spawn to first answer, seconds, median and each:", "", "```", figures.strip(), "```"]
    return "\n".join(lines) + "\n"


def _cell(outcome: str | None) -> str:
    return {"holds": "holds", "fails": "**fails**"}.get(outcome or "", "–")


if __name__ == "__main__":
    sys.exit(main())
