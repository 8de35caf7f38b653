"""Background tasks of the host whose failure is never silent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_logger = logging.getLogger(__name__)


def start(
    work: Coroutine[None, None, None], on_failure: Callable[[BaseException], None] | None = None
) -> asyncio.Task[None]:
    """Run `work` in the background. An exception is logged with its traceback, then given to `on_failure`."""

    def done(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _logger.critical("a task of the host failed", exc_info=error)
            if on_failure is not None:
                on_failure(error)

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(done)
    return task
