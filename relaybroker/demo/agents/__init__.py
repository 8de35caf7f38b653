"""The programs that the demo runs as agents."""
