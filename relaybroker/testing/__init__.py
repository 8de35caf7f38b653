"""What tests of this project and of its users stand on: small working programs in the place of the outside world.

It imports what it puts to the test: audit, replay, adapters, domain, and of the node its clock and its inbox.
"""
