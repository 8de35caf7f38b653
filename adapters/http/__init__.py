"""HTTP, both ways: the local API and the client of the engine."""
