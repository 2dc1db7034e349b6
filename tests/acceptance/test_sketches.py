"""Digests of real cells: one study published twice shares its donors' cells, whatever else differs."""

import anndata as ad
import numpy as np
import pytest
from benchmarks.real_cases import DATA

from swarmcell.cells import sketches

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
KEY = b"k" * 32


def test_the_donors_of_one_study_published_twice_are_found_and_nobody_else():
    """Lupus patients' blood, 9,516 cells of 3 donors and 1,556 of 2 of them, by the 38 genes that both files have."""
    first, second = (ad.read_h5ad(DATA / "rna" / f"{name}.h5ad") for name in ("kang3_100genes", "kang2_muscat"))
    genes = [name for name in first.var_names if name in set(second.var_names)]
    known = {donor: digests(cells, genes) for donor, cells in by_donor(first)}
    for donor, cells in by_donor(second):
        mine = digests(cells, genes)
        for other, theirs in known.items():
            found = sketches.sketch(theirs, sketches.KEPT_MAX)
            assert found.is_of(mine) == (donor == other)
            assert found.shared_with(mine)[0] == 0 or donor == other


def test_no_cell_equals_one_of_another_donor_by_a_hundred_genes():
    """9,459 of the 9,516 cells have five values or more: what `VALUES_MIN` rests on."""
    cells = ad.read_h5ad(DATA / "rna" / "kang3_100genes.h5ad")
    found = [digests(mine, list(cells.var_names)) for _, mine in by_donor(cells)]
    assert sum(map(len, found)) == 9459
    once = np.concatenate([np.unique(of_donor) for of_donor in found])
    assert len(np.unique(once)) == len(once)


def by_donor(adata):
    return [(donor, adata[(adata.obs["donor"] == donor).to_numpy()]) for donor in adata.obs["donor"].unique()]


def digests(cells, genes):
    found, known = sketches.digests(cells[:, genes].X, KEY)
    return found[known]
