"""Figures of a real broker with real terminals, driven by a scripted engine. Run: `make bench`."""
