"""The node socket to the engine."""
