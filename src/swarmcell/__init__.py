"""swarmcell: single-cell swarm classification, with no central server and no cell leaving its hospital."""

__version__ = "0.1.0"
