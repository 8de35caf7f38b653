"""The real broker program, in the run of the machine that the file `MACHINE_BOOT` names: `machine_run_broker.py up --state-dir ...`."""

import os
from pathlib import Path

from relaybroker.adapters import machine_boot

if __name__ == "__main__":
    machine_boot._LINUX = Path(os.environ["MACHINE_BOOT"])
    from relaybroker.cli import main

    main()
