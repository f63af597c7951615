"""The real core, store, buffer, loops and dispatcher in virtual time, from a seed: worlds, faults and what must hold.

`check.py` runs random small worlds against the invariants; `compare.py` compares settings on a large one.
"""
