"""Leaves three processes that want to stay: in a session of its own, a daemon with closed descriptors, a daemon with an empty environment.

Arguments: a file for their process ids (`session`, `daemon`, `bare`); `stay` (reads lines)
or `exit` (ends with 3 when all three are there).
"""

import os
import signal
import sys
import time
from pathlib import Path

PIDS, THEN = sys.argv[1:]
SLEEP = "import time; time.sleep(600)"


def note(what):
    with Path(PIDS).open("a") as log:
        log.write(f"{what} {os.getpid()}\n")


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if os.fork() == 0:
    stubborn()
    os.setsid()
    note("session")
    os.execv(sys.executable, [sys.executable, "-c", SLEEP])
for environment in (os.environ, {}):
    if os.fork() == 0:
        stubborn()
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        note("daemon" if environment else "bare")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, 64)
        os.execve(sys.executable, [sys.executable, "-c", SLEEP], environment)
while Path(PIDS).read_text().count("\n") < 3:
    time.sleep(0.01)
print("> ", end="", flush=True)
if THEN == "exit":
    sys.exit(3)
while True:
    input()
