"""What each public method of the published driver and SDK classes comes to with this broker, and the page that says so.

`python -m tests.peers.drivers.methods` writes docs/clients.md from `methods.toml`; the tests beside it run the unmodified packages.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "clients.md"
WORKS = "works"


def table() -> dict[str, dict[str, str]]:
    """Class -> method -> `works`, or the code of the refusal and why."""
    methods: dict[str, dict[str, str]] = tomllib.loads((HERE / "methods.toml").read_text())
    return methods


def refusal_of(outcome: str) -> str | None:
    """The code with which it is refused on purpose; None = it works."""
    return None if outcome == WORKS else outcome.partition(":")[0]


def page() -> str:
    """The table as Markdown."""
    lines = [
        "<!-- Made by `python -m tests.peers.drivers.methods` from tests/peers/drivers/methods.toml. Do not edit. -->",
        "# Existing clients",
        "",
        "Every public method of the published driver and SDK classes, called by the unmodified packages against this broker in",
        "`tests/peers/drivers` (npm `@agent-relay/harness-driver` 8.9.2 and 9.1.6, PyPI `agent-relay-sdk` 13.4.1 and 14.0.0).",
    ]
    for name, methods in table().items():
        lines += ["", f"## {name}", "", "| method | with this broker |", "|---|---|"]
        for method, outcome in methods.items():
            code, _, why = outcome.partition(":")
            shown = "works" if outcome == WORKS else f"refused on purpose, `{code}`: {why.strip()}"
            lines.append(f"| `{method}` | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} written\n")
