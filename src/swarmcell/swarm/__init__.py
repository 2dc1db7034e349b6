"""The swarm is a log: entries in, state and actions out. Pure: no clock, socket, file, randomness or array."""
