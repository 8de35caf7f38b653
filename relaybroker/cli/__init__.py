"""The `relaybroker` command: arguments in, text and exit status out. It imports any room but `reference`.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from relaybroker.cli.app import main

__all__ = ["main"]
