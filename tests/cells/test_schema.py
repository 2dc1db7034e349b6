"""The data contract is held at both ends: what breaks it is neither written nor read."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from full_disk import room_for

from swarmcell.cells import schema
from swarmcell.errors import CellsError, InputError, OutputError, PanelError, SwarmcellError


def _without(slot: str, key: str) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        del getattr(adata, slot)[key]

    return change


def _set_obs(name: str, row: int, value: str | None) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        labels = adata.obs[name].astype(object)
        labels.iloc[row] = value
        adata.obs[name] = labels

    return change


def _set_uns(key: str, value: object) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.uns["swarmcell"][key] = value

    return change


def _put_nan(adata: ad.AnnData) -> None:
    adata.X.data[0] = np.nan


def _reorder(adata: ad.AnnData) -> None:
    adata.var_names = adata.var_names[::-1]


def _double(adata: ad.AnnData) -> None:
    adata.X = adata.X.astype(np.float64)


BROKEN: list[tuple[str, Callable[[ad.AnnData], None], type[SwarmcellError], str]] = [
    ("no uns", _without("uns", "swarmcell"), CellsError, "not prepared"),
    ("half an uns", lambda a: a.uns["swarmcell"].pop("qc"), CellsError, r"keys \['qc'\]"),
    ("another schema", _set_uns("schema", 99), CellsError, "schema 99, expected 1"),
    ("unknown input", _set_uns("input", "guess"), CellsError, "input 'guess'"),
    ("changed universe", _set_uns("universe_sha256", "00"), PanelError, "digest"),
    ("no donor", _without("obs", "donor"), CellsError, r"obs\['donor'\] is missing"),
    ("a cell without donor", _set_obs("donor", 3, None), CellsError, "missing for 1 cells"),
    ("unknown side", _set_obs("split", 3, "test"), CellsError, "holds \\['test'\\]"),
    ("donor on both sides", _set_obs("split", 0, "train"), CellsError, "donor 'd0' is both"),
    ("two conditions in a sample", _set_obs("condition", 0, "ill"), CellsError, "sample 'd0' has 2 conditions"),
    ("two donors in a sample", _set_obs("sample", 2, "d3"), CellsError, "sample 'd3' has 2 donors"),
    ("another order of features", _reorder, PanelError, "features"),
    ("no symbol", _without("var", "symbol"), CellsError, "symbol"),
    ("no counts", _without("layers", "counts"), CellsError, "counts"),
    ("NaN", _put_nan, CellsError, "NaN"),
    ("float64", _double, CellsError, "float64, expected float32"),
]


@pytest.mark.parametrize(("change", "kind", "says"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_contract_is_refused_by_name(
    prepared: ad.AnnData, tmp_path: Path, change: Callable[[ad.AnnData], None], kind: type[SwarmcellError], says: str
) -> None:
    change(prepared)
    with pytest.raises(kind, match=says):
        schema.check(prepared, "site-a.h5ad")
    with pytest.raises(kind, match=says):
        schema.write_prepared(prepared, tmp_path / "out.h5ad")
    assert not list(tmp_path.iterdir())


def test_no_cell_is_refused(prepared: ad.AnnData) -> None:
    with pytest.raises(CellsError, match="no cell"):
        schema.check(prepared[:0].copy(), "site-a.h5ad")


def test_what_was_written_is_read_back(prepared: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "site-a.h5ad"
    schema.write_prepared(prepared, path)
    back = schema.read_prepared(path)
    assert (back.X != prepared.X).nnz == 0
    assert (back.layers["counts"] != prepared.layers["counts"]).nnz == 0
    left, right = (frame.astype(object) for frame in (back.obs, prepared.obs))  # pandas 3 reads strings as `str`
    pd.testing.assert_frame_equal(left, right, check_index_type=False, check_column_type=False)
    assert schema.universe_of(back).ids == tuple(prepared.var_names)
    assert schema.qc_of(back) == {"cells_in": 24}
    assert [p.name for p in tmp_path.iterdir()] == ["site-a.h5ad"]


def test_existing_output_is_kept_without_force(prepared: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "site-a.h5ad"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        schema.write_prepared(prepared, path)
    assert path.read_text() == "mine"
    schema.write_prepared(prepared, path, force=True)
    assert schema.read_prepared(path).n_obs == prepared.n_obs


def test_full_disk_leaves_nothing_behind(prepared: ad.AnnData, tmp_path: Path) -> None:
    with room_for(2000), pytest.raises(OutputError, match=r"File too large.*MiB are free"):
        schema.write_prepared(prepared, tmp_path / "out.h5ad")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"hello", "not an .h5ad file"), (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "truncated")],
    ids=["missing", "text", "truncated"],
)
def test_unreadable_prepared_file_is_an_input_error(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "site-a.h5ad"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        schema.read_prepared(path)


def test_donor_with_two_samples_of_different_conditions_is_fine(prepared: ad.AnnData) -> None:
    halves = np.arange(prepared.n_obs) < prepared.n_obs // 2
    prepared.obs["sample"] = [
        f"{d}-{'before' if h else 'after'}" for d, h in zip(prepared.obs["donor"], halves, strict=True)
    ]
    prepared.obs["condition"] = ["before" if h else "after" for h in halves]
    schema.check(prepared, "site-a.h5ad")


@pytest.mark.parametrize(
    "labels",
    [["b", "a", None, "b"], [2, 10, 2], [None, None], ["1", 1, None]],
    ids=["missing", "numbers", "none", "same-text"],
)
def test_categories_are_made_over_as_plain_labels_are(labels: list[object]) -> None:
    plain = pd.Series(labels, index=[f"c{n}" for n in range(len(labels))], dtype=object, name="donor")
    known = pd.Index([*dict.fromkeys(v for v in labels if v is not None), "unused"], dtype=object)
    stored = pd.Series(pd.Categorical(labels, categories=known), index=plain.index, name="donor")
    pd.testing.assert_series_equal(schema.categories(stored), schema.categories(plain))
