"""Figures of held-out patients: cell and patient metrics, calibration, intervals by bootstrap over donors.

Rules: the donor is the unit. Cells of a donor are not independent, so every resample, permutation and interval here
draws donors, never cells. Each metric takes resampling weights, and row 0 of a batch is the data as measured. A
metric that the data do not define is `nan` inside this package, and leaves it as an `Estimate` without a value and
with a reason.
"""
