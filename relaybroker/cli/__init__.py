"""The `relaybroker` command: arguments in, text and exit status out. It imports any room but `reference`.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from relaybroker.cli.standard_streams import fill

NO_MEMORY = (
    "relaybroker: there is not enough memory. See `ulimit -v`, `ulimit -u` and the limits of the container;"
    " a broker needs 200 MB of address space."
)


def main(args: list[str] | None = None) -> Any:
    """Run the command; never returns. The stdio bridge, which programs start once an agent, does without the command tree."""
    fill()
    try:
        if (sys.argv[1:] if args is None else args) == ["mcp"]:
            from relaybroker.mcp.bridge import run

            sys.exit(run())
        from relaybroker.cli.app import main as run_command

        run_command(args)
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if not _is_shortage(error):
            raise
        sys.exit(NO_MEMORY)


def _is_shortage(error: Exception) -> bool:
    """Whether the machine has no memory, or no thread, left to give."""
    is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    says_so = "failed to map segment" in str(error) or str(error) == "can't start new thread"
    return isinstance(error, MemoryError) or is_refused or says_so
