"""Reads lines from its terminal as `input()` does and logs each as JSON. Arguments: LOG [startup seconds]."""

import json
import sys
import time


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


if len(sys.argv) > 2:
    time.sleep(float(sys.argv[2]))
while True:
    record(json.dumps(input()))
