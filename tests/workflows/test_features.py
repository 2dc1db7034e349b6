"""Facts about choosing features from files: scanpy's genes on all training cells, from disk, or a clear refusal."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from swarmcell.cells import schema
from swarmcell.errors import CellsError
from swarmcell.model import released
from swarmcell.model.study import FeatureRule, FitRule, Floors, Study
from swarmcell.workflows import train as workflow
from swarmcell.workflows.audit_privacy import audit_privacy
from swarmcell.workflows.fitness import faults
from swarmcell.workflows.train import Options

N_TOP = 8
RULE = FitRule(rounds_max=2, patience_rounds=1)
STUDY = Study(
    name="genes",
    modality="rna",
    stages=("features", "cell"),
    features=FeatureRule(rule="seurat_v3", n_top=N_TOP),
    cell=RULE,
    patient=RULE,
    floors=Floors(donors=1, cells=1),
)


def silent(event, facts):
    """Observe nothing."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_cells):
    """Three prepared files with counts, as `preprocess` writes them."""
    folder = tmp_path_factory.mktemp("features")
    paths = []
    for site in ("site-a", "site-b", "site-c"):
        adata = make_cells(site, n_cells=20)
        rng = np.random.default_rng([*site.encode()])
        means = np.random.default_rng(0).lognormal(0, 1.5, adata.n_vars)
        counts = rng.poisson(means * rng.gamma(1 + np.arange(adata.n_vars) % 5, 1, adata.shape))
        adata.layers["counts"] = sparse.csr_matrix(counts.astype(np.int32))
        universe = schema.universe_of(adata)
        adata.uns[schema.UNS] = schema.contents(
            modality="rna", source_kind="counts", universe=universe, qc={}, provenance={}
        )
        paths.append(folder / f"{site}.h5ad")
        schema.write_prepared(adata, paths[-1])
    return paths


def scanpys(files):
    whole = ad.concat([ad.read_h5ad(path) for path in files], index_unique="-")
    train = whole[(whole.obs["split"] == "train").to_numpy()]
    counts = ad.AnnData(train.layers["counts"].astype(np.float64), var=whole.var[[]])
    sc.pp.highly_variable_genes(counts, flavor="seurat_v3", n_top_genes=N_TOP)
    return tuple(counts.var_names[counts.var["highly_variable"]])


@pytest.mark.parametrize("out_of_core", [False, True])
def test_a_pooled_run_over_several_files_chooses_the_genes_of_scanpy(files, tmp_path, out_of_core):
    options = Options(threads=1, out_of_core=out_of_core)
    made = workflow.train_alone(files, runs=tmp_path, name="pooled", study=STUDY, options=options, observer=silent)
    assert released.load(made.models["local"]).panel_ids == scanpys(files)


def test_shadow_models_of_an_audit_choose_their_genes_by_counts_too(files, tmp_path):
    options = Options(threads=1)
    made = workflow.train_alone(files[:1], runs=tmp_path, name="own", study=STUDY, options=options, observer=silent)
    found = audit_privacy(made.models["local"], files[:1], n_shadows=2, n_resamples=20, seed=0)
    assert [attack.name for attack in found.models[0].attacks] == ["loss threshold", "shadow models"]


def test_the_two_rounds_of_features_are_told(files, tmp_path):
    told = []
    options = Options(threads=1)
    workflow.train_alone(
        files, runs=tmp_path, name="told", study=STUDY, options=options, observer=lambda *event: told.append(event)
    )
    rounds = [facts for name, facts in told if name == "round" and facts["stage"] == "features"]
    assert [(facts["stage_round"], facts["rounds_max"]) for facts in rounds] == [(1, 2), (2, 2)]


def test_a_file_without_counts_is_refused_with_a_remedy(make_cells, tmp_path):
    adata = make_cells("site-a", n_cells=5)
    schema.write_prepared(adata, tmp_path / "lognorm.h5ad")
    with pytest.raises(CellsError, match=r"lognorm\.h5ad: has no raw counts.*top_variance"):
        workflow.train_alone(
            [tmp_path / "lognorm.h5ad"],
            runs=tmp_path,
            name="x",
            study=STUDY,
            options=Options(threads=1),
            observer=silent,
        )
    assert not (tmp_path / "x").exists()
    assert any("no raw counts" in str(fault) for fault in faults(adata, STUDY, source="lognorm.h5ad"))
