"""Read by every Python that has this directory in its PYTHONPATH: programs of ours know the door of the scripted program then."""

import contextlib
import sys

with contextlib.suppress(ImportError):  # a Python without our packages
    import own_door

    if any("relaybroker" in word for word in sys.orig_argv):
        own_door.register()
