"""Takes its terminal raw, shows nothing, and logs what was typed up to each CR as JSON. Arguments: LOG [bytes per read] [pause]."""

import json
import os
import sys
import time
import tty


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


size = int(sys.argv[2]) if len(sys.argv) > 2 else 65536
pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
tty.setraw(0)
typed = b""
while True:
    typed += os.read(0, size)
    if pause:
        time.sleep(pause)
    while b"\r" in typed:
        line, _, typed = typed.partition(b"\r")
        record(json.dumps(line.decode()))
