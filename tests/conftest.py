"""A cohort of two sites as prepared files, and models fitted to it by scikit-learn: a peer, not our own training."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from scipy import sparse

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would never be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)

slow = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine is no fault of the code
settings.register_profile("same", derandomize=True, max_examples=60, **slow)  # else a change fails by another's fault
settings.register_profile("fresh", max_examples=600, **slow)  # `make soak` looks for what "same" does not show
settings.load_profile("same")

TYPES = ("B", "NK", "T")
CONDITIONS = ("ill", "healthy")
GENES = 24


def cells_of(site, *, n_donors=8, held_out=4, n_cells=60, signal=1.5, effect=1.2, seed=0, dense=False):
    """Return a prepared AnnData: each type has its own genes; illness raises four genes of T cells."""
    from swarmcell.cells import panel as panels
    from swarmcell.cells import schema

    rng = np.random.default_rng([seed, *site.encode()])
    universe = panels.from_ids([f"ENSG{i:011d}" for i in range(GENES)], [f"G{i}" for i in range(GENES)], name="test")
    n = n_donors * n_cells
    donor = np.repeat(np.arange(n_donors), n_cells)
    ill = (np.arange(n_donors) % 2 == 0)[donor]
    cell_type = rng.integers(0, len(TYPES), n)
    X = rng.gamma(1.0, 0.5, (n, GENES)) * (rng.uniform(size=(n, GENES)) < 0.5)
    for k in range(len(TYPES)):
        X[np.ix_(cell_type == k, np.arange(4 * k, 4 * k + 4))] += signal
    X[np.ix_(ill & (cell_type == 2), np.arange(16, 20))] += effect
    X += 0.2 * rng.normal(size=(n_donors, GENES))[donor].clip(0)
    names = [f"p{d}" for d in donor]
    obs = pd.DataFrame(
        {
            "donor": names,
            "sample": [f"{name}-1" for name in names],
            "site": site,
            "condition": np.where(ill, *CONDITIONS),
            "cell_type": np.array(TYPES)[cell_type],
            "split": np.where(donor < held_out, "held_out", "train"),
        },
        index=[f"{site}-{i}" for i in range(n)],
    )
    var = pd.DataFrame({"symbol": list(universe.symbols), "present": True}, index=list(universe.ids))
    adata = ad.AnnData(X.astype(np.float32) if dense else sparse.csr_matrix(X.astype(np.float32)), obs, var)
    adata.uns["swarmcell"] = schema.contents(
        modality="rna", source_kind="lognorm", universe=universe, qc={}, provenance={}
    )
    return schema.plain(adata)


def fitted(*cohort, shuffled=False, cell_types=TYPES, stages=("features", "cell", "patient"), seed=0):
    """Return a `TrainedModel` fitted to the training donors of `cohort`."""
    from sklearn.linear_model import LogisticRegression

    from swarmcell.model import released, sample_features
    from swarmcell.model.fixed import STATISTICS_BITS, to_int64
    from swarmcell.model.sample_rows import sample_rows
    from swarmcell.model.state import DONE, MergedState, StageResult
    from swarmcell.model.study import Study, rules_digest

    whole = ad.concat(cohort)
    train = whole[(whole.obs["split"] == "train").to_numpy()]
    rng = np.random.default_rng(seed)
    ids = tuple(whole.var_names)
    study = Study(
        name="test study",
        modality="rna",
        stages=stages,
        cell_types=cell_types,
        conditions=CONDITIONS,
        universe_sha256=str(cohort[0].uns["swarmcell"]["universe_sha256"]),
    )
    X = np.asarray(train.X.toarray() if sparse.issparse(train.X) else train.X, np.float64)
    arrays = {"panel": np.arange(GENES), **scaling_of(X)}
    result = StageResult(rounds=3, best_round=2, sites=len(cohort), n_cells=train.n_obs, n_donors=8)
    results = {}
    if "cell" in stages:
        known = train.obs["cell_type"].isin(cell_types).to_numpy()
        labels = np.array([cell_types.index(v) for v in train.obs["cell_type"][known]])
        labels = rng.permutation(labels) if shuffled else labels
        scaled = (X[known] - X.mean(axis=0)) / X.std(axis=0)
        arrays |= linear("cell", LogisticRegression(C=1.0).fit(scaled, labels), len(cell_types))
        results["cell"] = result
    state = MergedState(rules=rules_digest(study), stage=DONE, round=6, results=results, arrays=arrays)
    if "patient" not in stages:
        return released.assemble(state, study, ids, {"kind": "swarm"})
    keys = (train.obs["site"].astype(str) + "/" + train.obs["sample"].astype(str)).to_numpy()
    names, first, code = np.unique(keys, return_index=True, return_inverse=True)
    rows = sample_rows(state, study, sparse.csr_matrix(train.X), code.astype(np.int64), len(names))
    labels = np.array([CONDITIONS.index(v) for v in train.obs["condition"].iloc[first]])
    labels = rng.permutation(labels) if shuffled else labels
    mean, scale = (
        rows.mean(axis=0),
        np.maximum(rows.std(axis=0), 1e-3) / sample_features.weights(sample_features.blocks(study, ids)),
    )
    fit = LogisticRegression(C=10.0).fit((rows - mean) / scale, labels)
    patient = {
        "patient.mean": to_int64(mean, STATISTICS_BITS, what="mean"),
        "patient.scale": to_int64(scale, STATISTICS_BITS, what="scale"),
        **linear("patient", fit, 2),
    }
    state = replace(state, arrays=arrays | patient, results=results | {"patient": result})
    return released.assemble(state, study, ids, {"kind": "swarm"})


def scaling_of(X):
    from swarmcell.model.fixed import STATISTICS_BITS, to_int64

    return {
        "mean": to_int64(X.mean(axis=0), STATISTICS_BITS, what="mean"),
        "scale": to_int64(X.std(axis=0), STATISTICS_BITS, what="scale"),
    }


def linear(stage, fit, n_classes):
    from swarmcell.model.fixed import to_int32

    weight, bias = fit.coef_, fit.intercept_
    if n_classes == 2:
        weight, bias = np.vstack([-weight, weight]) / 2, np.append(-bias, bias) / 2
    return {
        f"{stage}.weight": to_int32(weight, what="weight"),
        f"{stage}.bias": to_int32(bias, what="bias"),
    }


@dataclass(frozen=True)
class StudyFiles:
    """Files of a study on disk: two prepared files, and a run folder with a swarm model and a local one."""

    root: Path
    files: tuple[Path, Path]
    run: Path

    @property
    def merged(self):
        return self.run / "merged.safetensors"

    @property
    def local(self):
        return self.run / "local.safetensors"


def write_study(root, **options):
    from swarmcell.cells import schema
    from swarmcell.model import released

    cohort = [cells_of(site, **options) for site in ("site-a", "site-b")]
    files = tuple(root / f"{site}.h5ad" for site in ("site-a", "site-b"))
    for adata, path in zip(cohort, files, strict=True):
        schema.write_prepared(adata, path)
    run = root / "runs" / "site-a"
    run.mkdir(parents=True)
    released.save(fitted(*cohort), run / "merged.safetensors")
    released.save(fitted(cohort[0]), run / "local.safetensors")
    return StudyFiles(root, files, run)


@pytest.fixture(scope="session")
def study_files(tmp_path_factory):
    """Two sites of 8 donors each, 4 held out; never write into it."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def make_cells():
    return cells_of


@pytest.fixture(scope="session")
def fit_model():
    return fitted
