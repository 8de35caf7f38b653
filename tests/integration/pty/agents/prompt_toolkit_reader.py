"""A prompt_toolkit prompt (bracketed paste, redraws on each key); logs each submitted text as JSON. Argument: LOG."""

import json
import sys

from prompt_toolkit import PromptSession


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


session = PromptSession("agent> ", multiline=False)
while True:
    record(json.dumps(session.prompt()))
