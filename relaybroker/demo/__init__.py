"""`relaybroker demo`: the main job on real processes, measured from what the agents really received.

It starts programs and asks them over HTTP; it imports adapters only.
"""

from __future__ import annotations

from relaybroker.demo.show import run

__all__ = ["run"]
