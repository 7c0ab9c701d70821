"""A whole book enforced by script: a provider's netted margin and every taker's, each an output of its own."""
