"""The `relaybroker` command: arguments in, text and exit status out. It imports any room but `reference`.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from relaybroker.cli.standard_streams import fill

NO_MEMORY = (
    b"relaybroker: there is not enough memory. See `ulimit -v`, `ulimit -u` and the limits of the container;"
    b" a broker needs 200 MB of address space.\n"
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
        os.write(2, NO_MEMORY)
        os._exit(1)  # without memory, the interpreter does not end by itself without complaint


def _is_shortage(error: Exception) -> bool:
    """Whether the machine has no memory, or no thread, left to give."""
    is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    says_so = "failed to map segment" in str(error) or str(error) == "can't start new thread"
    return isinstance(error, MemoryError) or is_refused or says_so
