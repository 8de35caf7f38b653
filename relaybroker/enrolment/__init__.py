"""Which engine, workspace and node a broker belongs to, found or made when it starts. It imports agents, config, adapters and domain."""
