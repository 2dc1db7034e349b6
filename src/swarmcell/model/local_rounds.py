"""What a site publishes in a round of averaging: its parameters after local training, and what the merge needs."""

import threading
from collections.abc import Mapping

import numpy as np

from swarmcell.cells.batches import generator
from swarmcell.errors import ModelError
from swarmcell.model import local_fit
from swarmcell.model.classifier import to_floats
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Floats, to_int32
from swarmcell.model.local_fit import Examples
from swarmcell.model.merges import averages
from swarmcell.model.merges.averages import CONTROL, SIXTEENTHS, STEPS, STEPS_LAST
from swarmcell.model.state import MergedState
from swarmcell.model.study import FitRule

TERM_LAST = 1 << 55  # of one site's part of a secure sum: those of a hundred sites fit 62 bits


def trained(
    state: MergedState, rule: FitRule, examples: Examples, *, seed: int, device: str, stop: threading.Event
) -> dict[str, Array] | None:
    """Return a site's arrays for this round, fixed point; `None` if `stop` was set meanwhile.

    Raises
    ------
    ModelError
        If the local fit diverges.
    """
    start = to_floats(state.group("now"))
    memory = state.group("memory")
    rng = generator(seed, state.stage, state.stage_round)
    correction = _correction(memory, rule, examples, device) if rule.merge == "scaffold" else None
    fitted = local_fit.fit(start, examples, rule, rng=rng, device=device, stop=stop, correction=correction)
    if fitted is None:
        return None
    if rule.merge == "scaffold":
        here = local_fit.gradient(start, examples, rule, device=device)
        fitted |= {CONTROL + name: array for name, array in here.items()}
    arrays: dict[str, Array] = {n: to_int32(a, what=f"stage {state.stage!r}: {n!r}") for n, a in fitted.items()}
    if rule.merge == "fednova":
        n_steps = local_fit.n_steps(rule, len(examples.train))
        arrays[STEPS] = np.array([effective_steps(n_steps, rule.momentum)], np.int64)
    return arrays


def effective_steps(n_steps: int, momentum: float) -> int:
    """Return how often a round's gradients count in its change, in sixteenths; more than `n_steps` with momentum.

    References
    ----------
    Wang et al. 2020, arXiv:2007.07481, section 4.1 (the norm of `a`; here for Nesterov's momentum).
    """
    past = momentum * momentum * (1 - momentum**n_steps) / (1 - momentum)
    return min(round((n_steps - past) / (1 - momentum) * SIXTEENTHS), STEPS_LAST)


def weighted(state: MergedState, rule: FitRule, arrays: Mapping[str, Array], weight: int) -> dict[str, Array]:
    """Return a site's part of the sums that the merge reads, for secure aggregation: it is never seen alone.

    Raises
    ------
    ModelError
        If a part is so large that the sums of a hundred sites might not fit 64 bits.
    """
    parts = averages.terms(rule, state.group("now"), arrays, weight)
    largest = max(int(np.abs(part).max(initial=0)) for part in parts.values())
    if largest > TERM_LAST:
        msg = (
            f"stage {state.stage!r}: a parameter times {weight} training examples is beyond the bound of a secure sum "
            f"({largest / TERM_LAST:.3g} times it). Lower learning_rate, or set secure_aggregation = false."
        )
        raise ModelError(msg)
    return {name: part.astype(np.int64) for name, part in parts.items()}


def _correction(
    memory: Mapping[str, Array], rule: FitRule, examples: Examples, device: str
) -> dict[str, Floats] | None:
    """Return the swarm's gradient minus this site's, both where the last round started; `None` in the first round."""
    at = {name.removeprefix("at."): array for name, array in memory.items() if name.startswith("at.")}
    if not at:
        return None
    own = local_fit.gradient(to_floats(at), examples, rule, device=device)
    swarm = to_floats({name: memory[CONTROL + name] for name in at})
    return {name: swarm[name] - own[name] for name in at}
