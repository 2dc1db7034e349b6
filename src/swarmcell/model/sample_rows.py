"""Samples as rows of features by what a merged state knows of cells: at a site that trains, and by a released model."""

import numpy as np

from swarmcell.cells.batches import Codes, Matrix
from swarmcell.model import calibration_rounds, sample_features
from swarmcell.model.classifier import Scaling, logits, to_floats
from swarmcell.model.clusters import Clusters
from swarmcell.model.fixed import Floats
from swarmcell.model.stages import CELL, CLUSTERS, parameters_of
from swarmcell.model.state import MergedState
from swarmcell.model.study import Study

_CHUNK_ROWS = 8192


def counted_codes(state: MergedState, X: Matrix) -> Codes | None:
    """Return what composition counts each cell as (X is on the panel): its type, else its cluster, else nothing."""
    if CLUSTERS in state.results:
        return Clusters.of(state.arrays).codes(X)
    if CELL not in state.results:
        return None
    parameters = to_floats(parameters_of(state, CELL))
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    starts = range(0, X.shape[0], _CHUNK_ROWS)
    found = [logits(parameters, X[i : i + _CHUNK_ROWS], scaling).argmax(axis=1) for i in starts]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def sample_rows(state: MergedState, study: Study, X: Matrix, sample: Codes, n_samples: int) -> Floats:
    """Return the samples' features, unscaled, shape `(n_samples, n_features)`.

    Parameters
    ----------
    X
        Cells on the panel.
    sample
        Sample of each cell, in `0 .. n_samples - 1`.
    """
    n_types = len(study.counted_types)
    return sample_features.compute(
        X,
        sample,
        n_samples,
        kinds=[block.kind for block in sample_features.blocks(study, [""] * int(X.shape[1]))],
        cell_type=counted_codes(state, X),
        n_types=n_types,
        type_means=calibration_rounds.type_means(state, n_types),
    )
