"""A computation enforced by one-time signatures of its words and a leaf for each group of its instructions.

Transparent: whoever reads the chain sees the words, runs the program, and can show which group was signed wrongly.
"""
