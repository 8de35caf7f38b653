"""How far something is that takes its time: on standard error, at a terminal, once it has taken a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

AFTER_S = 1.0
"""What is done sooner shows nothing."""


class Watch:
    """Is told how far it is. Called often, so cheap.

    Args:
        what: what is going on.
        total: where it ends; None where nobody knows.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._shown_from = time.monotonic() + AFTER_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, done: int) -> None:
        """So much is done."""
        if self._bar is None and time.monotonic() < self._shown_from:
            return
        bar, task = self._started()
        bar.update(task, completed=done)

    def total(self, total: int) -> None:
        """It is known now where it ends."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def says(self, what: str) -> None:
        """Something else is going on."""
        self._what = what
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what)

    def end(self) -> None:
        """Take it off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def _started(self) -> tuple[Progress, TaskID]:
        if self._bar is None or self._task is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*parts, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        return self._bar, self._task


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """Somebody to tell how far it is; None where nobody looks."""
    with watching(what, total) as watch:
        yield watch


@contextmanager
def watching(what: str, total: int | None = None) -> Iterator[Watch | None]:
    """As `progress`, for what also changes its name or its end on the way."""
    watch = Watch(what, total) if sys.stderr.isatty() else None
    try:
        yield watch
    finally:
        if watch is not None:
            watch.end()
