"""Asks for a password, then reads lines. Argument: LOG. The password and the lines are logged as JSON."""

import getpass
import json
import sys


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


record(json.dumps({"password": getpass.getpass("Password: ")}))
while True:
    record(json.dumps(input("> ")))
