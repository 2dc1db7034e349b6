"""Facts about how sites choose the panel together: the rounds, who is in them, and what is refused."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from swarmcell.errors import CellsError, ConfigError
from swarmcell.model.feature_rounds import PASSES_MAX
from swarmcell.model.learning import Learner
from swarmcell.model.stages import check_study
from swarmcell.model.state import from_bytes, to_bytes
from swarmcell.model.study import FeatureRule
from swarmcell.model.training_cells import gather
from swarmcell.privacy import secure_state
from swarmcell.privacy.secure_sum import SecureSum

SITES = ("site-a", "site-b", "site-c")
GENES, N_TOP = 80, 20


@pytest.fixture(scope="module")
def by_counts():
    return FeatureRule(rule="seurat_v3", n_top=N_TOP)


@pytest.fixture
def sites(make):
    """Three sites of one universe, with genes that vary more than the trend."""
    found = [make(site, n_genes=GENES, cells_per_donor=20) for site in SITES]
    for adata in found:
        rng = np.random.default_rng([1, *str(adata.obs["site"].iloc[0]).encode()])
        means = np.random.default_rng(2).lognormal(0, 1.5, GENES)
        counts = rng.poisson(means * rng.gamma(1 + np.arange(GENES) % 5, 1, adata.shape))
        adata.layers["counts"] = sparse.csr_matrix(counts.astype(np.float32))
    return found


def learner(study, *sources, with_counts=True):
    named = [(f"file {i}", adata) for i, adata in enumerate(sources)]
    counts = [adata.layers["counts"] for adata in sources] if with_counts else ()
    vocabularies = {"cell_types": study.cell_types, "conditions": study.conditions}
    return Learner(study, gather(named, **vocabularies, seed=study.seed, counts=counts), threads=1)


def until_the_panel(lab, *rounds):
    """Merge rounds of contributors, and return the state after each."""
    raw, states = rounds[0][0].start(), []
    for contributors in rounds:
        outcome = contributors[0].merge(raw, [one.contribute(raw, lab.stop) for one in contributors])
        assert outcome.left_out == {}
        raw = outcome.state
        states.append(from_bytes(raw))
    return states


def trained_on(sites):
    whole = ad.concat(sites, index_unique="-")
    return whole[(whole.obs["split"] == "train").to_numpy()]


def scanpys(cells, **options):
    counts = ad.AnnData(cells.layers["counts"].astype(np.float64), obs=cells.obs)
    frame = sc.pp.highly_variable_genes(counts, n_top_genes=N_TOP, inplace=False, **options)
    return np.flatnonzero(frame["highly_variable"]).tolist()


def test_three_sites_choose_the_genes_of_scanpy_on_their_pooled_training_cells(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    everyone = [learner(study, site) for site in sites]
    first, second = until_the_panel(lab, everyone, everyone)
    assert (first.stage, first.phase, first.stage_round) == ("features", "statistics", 1)
    assert second.stage == "cell"
    assert second.arrays["panel"].tolist() == scanpys(trained_on(sites), flavor="seurat_v3")
    assert second.results["features"].rounds == 2
    assert second.group("genes") == {}


def test_sums_that_stay_secret_choose_the_same_genes(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    names = ("0a", "0b", "0c")
    tasks = {
        name: SecureSum(learner(study, site), n_cells=100, n_donors=5, me=name, secret=name.encode() * 16, f=0)
        for name, site in zip(names, sites, strict=True)
    }
    raw = tasks["0a"].start()
    while (inner := from_bytes(secure_state.from_bytes(raw).inner)).stage == "features":
        said = [replace(task.contribute(raw, lab.stop), author=name) for name, task in tasks.items()]
        raw = tasks["0a"].merge(raw, said).state
    assert inner.arrays["panel"].tolist() == scanpys(trained_on(sites), flavor="seurat_v3")
    assert (inner.results["features"].rounds, inner.results["features"].sites) == (2, 3)


def test_any_grouping_of_the_sites_into_files_gives_the_same_bytes(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    swarm = until_the_panel(lab, *[[learner(study, site) for site in sites]] * 2)[-1]
    pooled = until_the_panel(lab, *[[learner(study, *sites)]] * 2)[-1]
    for name in ("panel", "mean", "scale"):
        assert swarm.arrays[name].tobytes() == pooled.arrays[name].tobytes()


def test_the_scaling_is_that_of_the_panel_by_any_rule(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    state = until_the_panel(lab, *[[learner(study, site) for site in sites]] * 2)[-1]
    X = trained_on(sites).X.toarray()[:, state.arrays["panel"]].astype(np.float64)
    np.testing.assert_allclose(state.arrays["mean"] / 2**24, X.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(state.arrays["scale"] / 2**24, X.std(axis=0), atol=1e-5)


def test_a_site_that_comes_or_goes_between_the_passes_begins_them_anew(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    a, b, c = (learner(study, site) for site in sites)
    states = until_the_panel(lab, [a, b, c], [a, b], [a, b])
    assert [state.stage for state in states] == ["features", "features", "cell"]
    assert states[-1].arrays["panel"].tolist() == scanpys(trained_on(sites[:2]), flavor="seurat_v3")


def test_sites_that_come_and_go_for_ever_end_the_study_with_a_text(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    a, b, c = (learner(study, site) for site in sites)
    states = until_the_panel(lab, *[[a, b] if n % 2 else [a, c] for n in range(PASSES_MAX + 1)])
    assert [state.finished for state in states] == [False] * PASSES_MAX + [True]
    assert "came and went" in states[-1].failure
    assert states[-1].group("genes") == {}


def test_counts_without_a_trend_end_the_study_with_a_remedy(lab, sites, by_counts):
    for site in sites:
        site.layers["counts"] = sparse.csr_matrix(
            (np.arange(site.n_obs * GENES) % GENES == 0).reshape(site.shape) * 1.0
        )
    study = lab.study(features=by_counts)
    (state,) = until_the_panel(lab, [learner(study, site) for site in sites])
    assert state.finished
    assert "top_variance" in state.failure


def test_cells_without_counts_are_refused_with_a_remedy(lab, sites, by_counts):
    alone = learner(lab.study(features=by_counts), sites[0], with_counts=False)
    with pytest.raises(CellsError, match=r"no raw counts.*top_variance"):
        alone.contribute(alone.start(), lab.stop)


@pytest.mark.parametrize("rule", ["seurat_v3", "seurat_v3_by_site"])
def test_cytometry_has_no_counts_to_choose_by(lab, rule):
    with pytest.raises(ConfigError, match=r"cytometry has none.*top_variance"):
        check_study(lab.study(modality="cytometry", features=FeatureRule(rule=rule)))


def test_what_belongs_to_the_other_pass_is_left_out_with_the_reason(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    a, b = learner(study, sites[0]), learner(study, sites[1])
    raw = a.start()
    early = b.contribute(raw, lab.stop)
    raw = a.merge(raw, [a.contribute(raw, lab.stop)]).state
    late = a.merge(raw, [a.contribute(raw, lab.stop), early, replace(early, kind="update")])
    assert sorted(late.left_out) == [1, 2]
    assert from_bytes(late.state).stage == "cell"


def test_the_state_between_the_passes_survives_its_bytes(lab, sites, by_counts):
    study = lab.study(features=by_counts)
    (state,) = until_the_panel(lab, [learner(study, site) for site in sites])
    assert to_bytes(from_bytes(to_bytes(state))) == to_bytes(state)
    assert sorted(state.group("genes")) == ["counts", "counts_squared", "kept_last", "n", "trend"]


def test_by_site_the_genes_that_most_sites_rank_high_are_chosen(lab, sites):
    study = lab.study(features=FeatureRule(rule="seurat_v3_by_site", n_top=N_TOP))
    swarm = until_the_panel(lab, [learner(study, site) for site in sites])[-1]
    pooled = until_the_panel(lab, [learner(study, *sites)])[-1]
    assert swarm.arrays["panel"].tobytes() == pooled.arrays["panel"].tobytes()
    assert swarm.results["features"].rounds == 1
    theirs = scanpys(trained_on(sites), flavor="seurat_v3_paper", batch_key="site")
    assert len(set(theirs) & set(swarm.arrays["panel"].tolist())) >= N_TOP - 2  # a mean of ranks, there a median


def test_a_site_whose_genes_cannot_be_ranked_says_so(lab, sites):
    site = sites[0]
    site.layers["counts"] = sparse.csr_matrix((np.arange(site.n_obs * GENES) % GENES == 0).reshape(site.shape) * 1.0)
    alone = learner(lab.study(features=FeatureRule(rule="seurat_v3_by_site", n_top=N_TOP)), site)
    with pytest.raises(CellsError, match=r"site-a: .*top_variance"):
        alone.contribute(alone.start(), lab.stop)
