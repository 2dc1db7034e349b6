"""Sealing of blobs; secure aggregation and differential privacy have their place here."""
