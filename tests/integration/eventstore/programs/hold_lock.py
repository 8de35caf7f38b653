"""Takes the state lock at argv[1], prints its pid, and holds it until its input ends; or prints why it could not."""

import os
import sys
from pathlib import Path

from relaybroker.adapters.eventstore.errors import StateLocked
from relaybroker.adapters.eventstore.lock import StateLock

try:
    with StateLock(Path(sys.argv[1])):
        print(os.getpid(), flush=True)
        sys.stdin.read()
except StateLocked as error:
    print(error, flush=True)
    sys.exit(1)
