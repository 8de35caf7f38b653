"""The pure core: machines, events, decisions. No I/O, no clock, no randomness."""
