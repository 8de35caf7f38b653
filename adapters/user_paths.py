"""Paths that somebody wrote: asked about, they answer yes or no, also where they are too long or lead through a closed door."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_directory(path: str | Path) -> bool:
    """Whether a directory is there, as far as we may know. Never raises, unlike `Path.is_dir`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether a plain file is there, as far as we may know. Never raises, unlike `Path.is_file`."""
    return os.path.isfile(path)  # noqa: PTH113
