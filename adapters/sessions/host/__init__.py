"""The session host, which outlives the broker, and its client: it starts programs, keeps them and what they were given, and ends them."""
