import anndata as ad
import numpy as np
import pandas as pd
import pytest

from swarmcell.report.density_pictures import N_BINS, marker_densities


@pytest.fixture
def prepared() -> ad.AnnData:
    """Cells of two sites, whose second marker does not vary."""
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(2, 1, 400), np.full(400, 3.0), rng.normal(0, 1, 400)]).astype(np.float32)
    obs = pd.DataFrame({"site": ["a", "b"] * 200, "donor": ["d1", "d2"] * 200}, index=[str(n) for n in range(400)])
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=["CD3", "CD4", "CD8"]))


def test_every_marker_has_a_panel_with_a_line_per_site(prepared: ad.AnnData) -> None:
    picture = marker_densities(prepared)
    shown = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in shown] == ["CD3", "CD4", "CD8"]
    assert [len(axes.patches) for axes in shown] == [2, 2, 2]
    heights, edges, _ = shown[0].patches[0].get_data()
    assert len(heights) == N_BINS
    assert float((heights * np.diff(edges)).sum()) == pytest.approx(1.0)
    assert "400 cells of 2 donors" in picture.caption
