"""How each event changes the state, one module per subject. Used by `relaybroker.domain.fold` and by nothing else."""
