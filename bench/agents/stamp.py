"""The benchmark's agent: notes when each line was on its standard input. stamp.py FILE."""

import sys
import time

with open(sys.argv[1], "a", encoding="utf-8", buffering=1) as notes:
    print("ready", flush=True)
    notes.writelines(f"{time.monotonic_ns()} {line}" for line in sys.stdin)
