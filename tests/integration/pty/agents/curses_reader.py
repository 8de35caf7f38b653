"""A full-screen curses program with an input line; logs each submitted text as JSON. Argument: LOG."""

import curses
import json
import sys


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


def main(screen):
    text = ""
    while True:
        screen.erase()
        screen.addstr(0, 0, "curses agent")
        screen.addstr(3, 0, "> " + text[-60:])
        screen.refresh()
        key = screen.get_wch()
        if key in ("\r", "\n"):
            record(json.dumps(text))
            text = ""
        elif isinstance(key, str):
            text += key


curses.wrapper(main)
