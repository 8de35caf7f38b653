"""Run a command on a busy machine: `python -m tests.loaded make test`.

Beside it two loops use the processor and one program writes and syncs without a pause; the command itself runs with a lower priority. The
load ends with the command, with this program, or after two hours, whichever comes first.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

LOOPS = 2
LONGEST_S = 7200
NICE = 5
_ON = f"""
import os, sys, tempfile, time
parent, until = os.getppid(), time.monotonic() + {LONGEST_S}
def goes_on():
    return os.getppid() == parent and time.monotonic() < until
"""
_LOOP = f"""{_ON}
while goes_on():
    for _ in range(1_000_000):
        pass
"""
_WRITER = f"""{_ON}
with tempfile.TemporaryFile(dir=".") as file:
    while goes_on():
        file.seek(0)
        for _ in range(50):
            file.write(os.urandom(65536))
            file.flush()
            os.fsync(file.fileno())
"""


def main(command: list[str]) -> int:
    """The exit status of the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load = [subprocess.Popen([sys.executable, "-c", program]) for program in (*[_LOOP] * LOOPS, _WRITER)]
    began = time.monotonic()
    running = subprocess.Popen(["nice", "-n", str(NICE), *command])
    try:
        return running.wait()
    finally:
        for process in (running, *load):
            process.terminate()
            process.wait()
        print(f"beside a load of {LOOPS} loops and a syncing writer: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
