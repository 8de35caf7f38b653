"""Starts a child and a grandchild that ignore SIGTERM and SIGHUP, one in a group of its own; logs all pids; reads lines."""

import os
import signal
import sys
import time
from pathlib import Path


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


record(str(os.getpid()))


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    record(str(os.getpid()))


if os.fork() == 0:
    stubborn()
    if os.fork() == 0:
        os.setpgid(0, 0)
        stubborn()
    time.sleep(600)
    os._exit(0)
if len(sys.argv) > 2:
    while Path(sys.argv[1]).read_text().count("\n") < 3:
        time.sleep(0.01)
    sys.exit(int(sys.argv[2]))
while True:
    input()
