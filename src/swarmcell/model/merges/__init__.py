"""Merge rules: how the sites' parts of a round become the next merged state, the same bits at every peer.

Rules: a merge is a function of integers. Sums are exact integers; what follows them is float64 elementwise + - * / and
sqrt, rounded back to fixed point: no BLAS, torch, FMA, exp, log or pow, whose bits change with processor and threads.
Whatever order contributions come in, they are merged in the order of their digests.
"""
