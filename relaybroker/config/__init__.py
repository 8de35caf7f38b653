"""What the operator chose and where it is on disk: flags, environment, paths, `connection.json`. It imports adapters and domain."""
