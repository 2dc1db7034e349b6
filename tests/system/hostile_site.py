"""`swarmcell` in a process of its own, whose site contributes what no merge can take: another kind each round.

Usage: the arguments of swarmcell. In the stage of cells the contribution is in turn no encoding at all, of another
shape, absurdly large, not the sums of this round, and of fewer arrays; everything else about the peer is honest.
"""

from dataclasses import replace

import numpy as np

from swarmcell.cli.app import main
from swarmcell.model.encoding import Named, decode, encode
from swarmcell.model.learning import Learner
from swarmcell.model.state import from_bytes


def broken(raw, turn):
    named = decode(raw)
    if turn == 0:
        return b"\x00" * len(raw)
    if turn == 1:
        return encode(Named(named.header, {name: array[:-1] for name, array in named.arrays.items()}))
    if turn == 2:
        return encode(Named(named.header, {n: np.full_like(a, np.iinfo(a.dtype).max) for n, a in named.arrays.items()}))
    if turn == 3:
        return encode(Named({**named.header, "round": named.header["round"] + 1}, named.arrays))
    return encode(Named(named.header, dict(list(named.arrays.items())[1:])))


honest = Learner.contribute


def contribute(self, state, stop):
    found, now = honest(self, state, stop), from_bytes(state)
    if found is None or now.stage != "cell" or now.phase != "fit":
        return found
    return replace(found, parameters=broken(found.parameters, now.stage_round % 5))


Learner.contribute = contribute
if __name__ == "__main__":
    main()
