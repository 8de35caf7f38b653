"""PTY host and its client: programs in terminals that outlive the broker, and text typed into them exactly once."""
