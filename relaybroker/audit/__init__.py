"""The log answers for itself: finding a message, telling its story, checking that the log is whole.

Everything here reads the store and nothing else; a broker may run, be stopped or have been killed. It imports adapters and domain.
"""
