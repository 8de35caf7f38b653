"""What tests of this project and of its users stand on: small working programs in the place of the outside world."""
