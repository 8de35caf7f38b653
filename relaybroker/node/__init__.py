"""The running broker, from settings to a clean end: the loop and what stands around it. It imports every room below it in the layers.

Start at `bootstrap` (the order of a start), then `assembly` (which parts there are), then `runtime` (the loop).
"""
