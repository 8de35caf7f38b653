"""Prints a long boot log, is busy for a while without reading, throws away what was typed, then shows its prompt and reads lines.

Arguments: LOG seconds.
"""

import json
import sys
import termios
import time


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


for step in range(40):
    print(f"booting part {step} -> fine, please wait", flush=True)
time.sleep(float(sys.argv[2]))
termios.tcflush(0, termios.TCIFLUSH)
while True:
    record(json.dumps(input("agent> ")))
