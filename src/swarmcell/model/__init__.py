"""What is learnt: the study's rules, classifiers, parameters as fixed point, and merges.

Everything learns by the same two steps, in a swarm or alone: `contribute` (a site's own cells, from the merged state)
and `merge` (a pure function of the merged state and the contributions, in exact integers). Knows nothing of the swarm.
"""
