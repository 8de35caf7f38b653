"""Asks its questions one after the other, as agents do: a list that arrows move and Enter confirms. Arguments: LOG, then one question each.

A question is `text|option|option…`. In front of it, `*`: its list is replaced by another one at the first key; `!`: it ignores the first
Enter; `#`: it ignores every Enter.
"""

import os
import sys
import tty

UP, DOWN = "\x1b[A", "\x1b[B"


def paint(text, options, mark):
    rows = [f" {'❯' if at == mark else ' '} {at + 1}. {option}" for at, option in enumerate(options)]
    foot = " Enter to confirm · Esc to cancel"
    sys.stdout.write("\x1b[?25l\x1b[2J\x1b[H" + "\r\n".join(["─" * 60, f" {text}", "", *rows, "", foot]))
    sys.stdout.flush()


def ask(question):
    text, *options = question.lstrip("*!#").split("|")
    mark, ignored = 0, 0
    while True:
        paint(text, options, mark)
        key = os.read(0, 64).decode()
        while key == "\r" and (question.startswith("#") or (question.startswith("!") and not ignored)):
            ignored, key = ignored + 1, os.read(0, 64).decode()
        if question.startswith("*"):
            question, (text, *options) = "", ("Another question?", "Wipe everything", "Keep")
        elif key == "\r":
            return options[mark]
        elif key == "\x1b":
            return "cancelled"
        elif key in (UP, DOWN):
            mark = max(0, min(len(options) - 1, mark + (1 if key == DOWN else -1)))


tty.setraw(0)
with open(sys.argv[1], "a", encoding="utf-8", buffering=1) as log:
    log.writelines(ask(question) + "\n" for question in sys.argv[2:])
sys.stdout.write("\x1b[?25h\x1b[2J\x1b[H")
