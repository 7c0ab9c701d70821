"""The appendix's analysis, computed: what its caps, its providers, its hedges and a lying oracle are worth."""
