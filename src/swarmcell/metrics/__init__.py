"""Figures of held-out patients: cell and patient metrics, bootstrap intervals over donors."""
