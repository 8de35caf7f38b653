"""Floods its terminal with output and never reads it; raw, so that what is typed piles up. Argument: lines to print (0 = for ever)."""

import os
import sys
import time
import tty

tty.setraw(0)
count = int(sys.argv[1])
os.write(1, b"->pty:ready\r\n")
printed = 0
while not count or printed < count:
    os.write(1, b"x" * 70 + b"\r\n")
    printed += 1
time.sleep(600)
