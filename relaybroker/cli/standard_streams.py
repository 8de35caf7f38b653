"""A command that was started without its standard streams (`0<&- 1>&- 2>&-`, some supervisors) gets empty ones.

The numbers 0 to 2 would otherwise go to whatever is opened first: a socket or the log, into which the next library prints.
"""

from __future__ import annotations

import os
import sys


def fill() -> None:
    """Open what is missing of standard input, output and error on the null device. Call this before anything else is opened."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for the whole run
