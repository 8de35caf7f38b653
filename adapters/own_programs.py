"""How a Python program of ours is started."""

from __future__ import annotations

import sys


def own_program(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules in this interpreter. Of the directory that it is started in it imports nothing (`-P`)."""
    return [sys.executable, "-P", "-m", module, *arguments]
