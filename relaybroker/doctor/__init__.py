"""What can be checked about a broker and its machine without changing anything. It imports adapters, audit and config."""
