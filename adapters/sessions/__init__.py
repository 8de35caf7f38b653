"""Doors of agent sessions: the ways by which a delivery enters a program, each with the proof that it did."""
