"""The pure core: machines, events, decisions. No I/O, no clock, no randomness; it imports nothing else of ours."""
