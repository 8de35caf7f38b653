"""What an agent is started with, and what is cleared away after it: environment, token, isolation. It imports adapters and domain."""
