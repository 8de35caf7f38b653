"""Whose account this is."""

from __future__ import annotations

import getpass
import os


def login_name() -> str:
    """The user's name; containers run programs as a number that no name belongs to, and without USER."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
