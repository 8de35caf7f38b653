"""What agents can do with their own tokens, as tools: over the Model Context Protocol, over plain HTTP, and the stdio bridge.

Sending and whatever changes something goes through the core, looks go to the engine; nothing here keeps anything between two calls.
"""
