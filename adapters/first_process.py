"""The broker as the first process of a container: the number 1 has duties, so the broker runs below it.

The first process reaps whatever nobody waits for, hands on the signals that end a container, and starts the broker again when it was
killed: its agents live on, as everywhere. It ends when the broker ends by itself, with its status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

AGAIN_S = 1.0
"""Pause before a killed broker is started again."""
_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def is_first() -> bool:
    """Whether this is the first process of its namespace."""
    return os.getpid() == 1


def serve(command: list[str]) -> int:
    """Run the command below this process until it ends by itself; its status."""
    ended: list[int] = []
    child = subprocess.Popen(command)

    def hand_on(number: int, _frame: object) -> None:
        ended.append(number)
        child.send_signal(number)

    for number in _HANDED_ON:
        signal.signal(number, hand_on)
    while True:
        status = _status_of(child)
        if status >= 0 or ended:
            return status if status >= 0 else 128 - status
        sys.stderr.write(
            f"relaybroker: the broker was killed by signal {-status}; its agents keep running, and it is restarted\n"
        )
        sys.stderr.flush()
        time.sleep(AGAIN_S)
        child = subprocess.Popen(command)


def _status_of(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child, reaping every other process on the way; negative = it was killed by this signal."""
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode
