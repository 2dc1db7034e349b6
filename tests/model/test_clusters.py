"""Facts about clusters of cells: scikit-learn's k-means from the same start, the same bits for any partition."""

import threading
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from swarmcell.errors import ConfigError
from swarmcell.model import clusters
from swarmcell.model.clusters import Clusters, Space, Sums
from swarmcell.model.contribution import Contribution
from swarmcell.model.encoding import Named, encode
from swarmcell.model.learning import Learner
from swarmcell.model.released import TrainedModel, assemble, load, save
from swarmcell.model.sample_rows import counted_codes
from swarmcell.model.stages import check_study
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import ClusterRule, PrivacyRule, Study
from swarmcell.model.training_cells import TrainingCells
from swarmcell.privacy.secure_sum import SecureSum

N_SAMPLES, N_CELLS, N_GENES, K = 12, 900, 40, 5
ONE = 1 << clusters.BITS
STUDY = Study(
    name="clusters",
    modality="rna",
    stages=("features", "clusters", "patient"),
    conditions=("ill", "well"),
    clusters=ClusterRule(n=K, cells_per_sample=60, n_features=30, components=8, starts=4),
)
rng = np.random.default_rng(0)
KIND = rng.choice(K, N_CELLS, p=(0.4, 0.25, 0.2, 0.1, 0.05))
SAMPLE = np.sort(rng.integers(0, N_SAMPLES, N_CELLS))
LEVEL = rng.gamma(0.6, 4.0, (K, N_GENES))
X = sparse.csr_matrix(np.log1p(rng.poisson(LEVEL[KIND])).astype(np.float32))


def site(samples: np.ndarray) -> TrainingCells:
    """Return the cells of some samples as one site's; every second sample is ill."""
    rows = np.flatnonzero(np.isin(SAMPLE, samples))
    known, sample = np.unique(SAMPLE[rows], return_inverse=True)
    return TrainingCells(
        X=X[rows],
        feature_ids=tuple(f"g{i}" for i in range(N_GENES)),
        universe_sha256="",
        modality="rna",
        cell_type=np.full(len(rows), -1, np.int64),
        sample=sample.astype(np.int64),
        validation=np.zeros(len(rows), bool),
        sample_condition=(known % 2).astype(np.int64),
        sample_validation=np.zeros(len(known), bool),
        donors=tuple(f"a/{name}" for name in known),
    )


def learnt(*parts: np.ndarray, study: Study = STUDY, secret: bool = False) -> MergedState:
    """Run the study until it ends; the first and the last site merge, and must get the same bytes."""
    own = [site(part) for part in parts]
    sites = [Learner(study, cells, threads=1) for cells in own]
    if secret:
        about = [{"n_cells": cells.n_cells, "n_donors": cells.n_donors} for cells in own]
        sites = [SecureSum(one, me=f"s{i}", secret=bytes([i]) * 32, f=0, **about[i]) for i, one in enumerate(sites)]
    raw, stop = sites[0].start(), threading.Event()
    for _ in range(2000):
        said = [replace(one.contribute(raw, stop), author=f"s{i}") for i, one in enumerate(sites)]
        outcome = sites[0].merge(raw, said)
        assert not outcome.left_out
        assert sites[-1].merge(raw, said[::-1]).state == outcome.state
        raw = outcome.state
        if outcome.finished:
            return from_bytes(raw)
    raise AssertionError


ALL = np.arange(N_SAMPLES)


@pytest.fixture(scope="module")
def whole() -> MergedState:
    return learnt(ALL)


def test_from_the_same_start_the_centres_are_scikit_learns_for_any_partition(whole: MergedState) -> None:
    space = Space.of(whole.arrays, whole.group("clusters"))
    cells = space.coordinates(X)
    start = cells[np.random.default_rng(1).choice(N_CELLS, K, replace=False)]
    centres, size = start[None], np.array([K])
    for _ in range(100):
        parts = []
        for part in np.array_split(np.random.default_rng(2).permutation(N_CELLS), 4):
            parts.append(Sums.zero(1, K, cells.shape[1]))
            parts[-1].add(cells[part], clusters.nearest(cells[part], centres, size))
        total, count = sum(one.total for one in parts), sum(one.count for one in parts)
        before, centres = centres, clusters.moved(centres, total, count)
        if (before == centres).all():
            break
    peer = KMeans(K, init=start / ONE, n_init=1, tol=0, max_iter=100, algorithm="lloyd").fit(cells / ONE)
    np.testing.assert_allclose(centres[0] / ONE, peer.cluster_centers_, atol=1e-6)
    np.testing.assert_array_equal(clusters.nearest(cells, centres, size)[0], peer.labels_)
    squares = sum(one.squares for one in parts)
    left = sum(map(sum, clusters.within(total, squares, count)[0])) / ONE
    assert left == pytest.approx(peer.inertia_, rel=1e-4)


def test_the_space_is_that_of_scikit_learns_components_of_the_scaled_cells(whole: MergedState) -> None:
    space = Space.of(whole.arrays, whole.group("clusters"))
    drawn = clusters.drawn(SAMPLE, STUDY.clusters.cells_per_sample)
    dense = X.toarray()[:, space.chosen].astype(np.float64)
    scaled = np.clip((dense - space.scaling.mean) / space.scaling.scale, -10, 10)
    peer = PCA(8).fit(scaled[drawn])
    cosines = np.abs((space.vectors / 2.0**22 * peer.components_.T).sum(axis=0))
    np.testing.assert_allclose(cosines[:5], 1, atol=1e-2)  # the drawn cells' own mean is not taken away
    assert space.coordinates(X).dtype == np.int64


def test_clusters_are_the_kinds_of_cells(whole: MergedState) -> None:
    assert adjusted_rand_score(KIND, Clusters.of(whole.arrays).codes(X)) > 0.95
    count = whole.arrays["clusters.count"]
    assert sorted(count, reverse=True) == count.tolist()


def test_they_are_as_tight_as_scikit_learns_best_of_ten(whole: MergedState) -> None:
    found = Clusters.of(whole.arrays)
    cells = found.space.coordinates(X[clusters.drawn(SAMPLE, 60)]) / ONE
    apart = ((cells[:, None] - found.centres / ONE) ** 2).sum(axis=2).min(axis=1).sum()
    assert apart <= KMeans(K, n_init=10, random_state=0).fit(cells).inertia_ * (1 + 1e-4)


@pytest.mark.parametrize("n", [2, 5])
def test_any_partition_of_the_samples_gives_the_same_clusters(whole: MergedState, n: int) -> None:
    other = learnt(*np.array_split(np.random.default_rng(n).permutation(ALL), n))
    for name in ("chosen", "vectors", "centres", "count", "means"):
        np.testing.assert_array_equal(whole.arrays[f"clusters.{name}"], other.arrays[f"clusters.{name}"], err_msg=name)
    np.testing.assert_array_equal(whole.arrays["patient.mean"], other.arrays["patient.mean"])


def test_clusters_in_secret_are_those_of_open_sums(whole: MergedState) -> None:
    study = replace(STUDY, privacy=PrivacyRule(secure_aggregation=True))
    secret = learnt(*np.array_split(ALL, 3), study=study, secret=True)
    np.testing.assert_array_equal(whole.arrays["clusters.centres"], secret.arrays["clusters.centres"])


def test_a_model_counts_its_clusters_in_samples_after_a_journey_through_a_file(whole: MergedState, tmp_path) -> None:
    model = assemble(whole, STUDY, [f"g{i}" for i in range(N_GENES)], {})
    save(model, tmp_path / "m.safetensors")
    again: TrainedModel = load(tmp_path / "m.safetensors")
    assert again.digest == model.digest
    codes = counted_codes(again.state, X)
    assert codes.tolist() == Clusters.of(whole.arrays).codes(X).tolist()
    assert not again.has_cell_task
    obs = pd.DataFrame({"sample": SAMPLE.astype(str)}, index=[f"c{i}" for i in range(N_CELLS)])
    cells = ad.AnnData(X, obs, pd.DataFrame(index=list(again.panel_ids)))
    names, probabilities = again.predict_samples(cells)
    assert (len(names), probabilities.shape) == (N_SAMPLES, (N_SAMPLES, 2))


def test_each_sample_gives_at_most_so_many_cells_and_a_small_one_all() -> None:
    sample = np.array([0] * 10 + [1] * 3 + [0] * 5)
    rows = clusters.drawn(sample, 4)
    assert np.bincount(sample[rows]).tolist() == [4, 3]
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert len(clusters.drawn(np.zeros(0, np.int64), 4)) == 0


def test_no_sums_of_a_member_stop_a_merge(whole: MergedState) -> None:
    learner = Learner(STUDY, site(ALL), threads=1)
    raw, stop = learner.start(), threading.Event()
    for _ in range(60):
        now = from_bytes(raw)
        if now.stage == "patient":
            return
        good = learner.contribute(raw, stop)
        wild = {
            name: np.full(slot.shape, slot.last if name != "count" else 0, np.int64)
            for name, slot in learner.slots(raw).items()
        }
        _, header = learner.envelope(raw, weight=0)
        bad = Contribution(kind="statistics", parameters=encode(Named(header, wild)), n_cells=9, n_donors=1)
        learner.merge(raw, [good, bad])
        raw = learner.merge(raw, [good]).state
    raise AssertionError


def test_too_few_cells_and_stages_out_of_order_are_refused_in_words() -> None:
    many = replace(STUDY, clusters=replace(STUDY.clusters, n=500))
    assert "720 cells in all, too few for 500 clusters" in learnt(ALL, study=many).failure.replace("  ", " ")
    with pytest.raises(ConfigError, match="there is one of the two"):
        check_study(replace(STUDY, stages=("features", "cell", "clusters", "patient"), cell_types=("a", "b")))
    with pytest.raises(ConfigError, match="n_features = 2000; at most 1000"):
        check_study(replace(STUDY, clusters=ClusterRule(n_features=2000)))
