"""How long a test waits for what must happen.

A deadline ends a test that would hang; it asserts nothing. Ten times what the slowest machine needs, so that a busy one passes, too.
"""

WAIT_S = 120.0
