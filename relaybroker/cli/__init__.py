"""The `relaybroker` command: arguments in, text and exit status out. It imports any room but `reference`.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from typing import Any


def main(args: list[str] | None = None) -> Any:
    """Run the command; never returns. The stdio bridge, which programs start once an agent, does without the command tree."""
    if (sys.argv[1:] if args is None else args) == ["mcp"]:
        from relaybroker.mcp.bridge import run

        sys.exit(run())
    from relaybroker.cli.app import main as run_command

    run_command(args)
