"""Any payoff between two parties: as a curve of pieces, as a wave, or as signed legs that a guest program computes.

``shapes`` has those with a name and ``shape_file`` reads somebody's own; ``netted`` makes one contract of any of them.
"""
