"""Every format gives the same cells, in blocks of any size; what is damaged is refused by name."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from swarmcell.cells.readers import ReadOptions, open_source, source
from swarmcell.errors import CellsError, InputError, SwarmcellError, UsageError

Writers = dict[str, Callable[..., Path]]


def _counts(path: Path, options: ReadOptions | None = None) -> np.ndarray:
    return sparse.vstack(list(open_source(path, options or ReadOptions()).blocks())).toarray()


# --- Damage -----------------------------------------------------------------------------------------------------------


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _mtx_without(name: str) -> Callable[..., Path]:
    def make(table: object, writers: Writers, folder: Path) -> Path:
        made = writers["mtx"](table, folder / "m")
        (made / name).unlink()
        return made

    return make


def _mtx_with(name: str, change: Callable[[str], str]) -> Callable[..., Path]:
    def make(table: object, writers: Writers, folder: Path) -> Path:
        made = writers["mtx"](table, folder / "m", zipped=False)
        (made / name).write_text(change((made / name).read_text()))
        return made

    return make


def _renamed(old: str, new: str, zipped: bool) -> Callable[..., Path]:
    def make(table: object, writers: Writers, folder: Path) -> Path:
        made = writers["mtx"](table, folder / "m", zipped=zipped)
        (made / old).rename(made / new)
        return made

    return make


def _h5ad_with(slot: str, value: float, index: int = 0) -> Callable[..., Path]:
    def make(table: object, writers: Writers, folder: Path) -> Path:
        made = writers["h5ad"](table, folder / "m.h5ad")
        with h5py.File(made, "r+") as file:
            file[slot][index] = value
        return made

    return make


def _empty(table: object, writers: Writers, folder: Path) -> Path:
    path = folder / "m.h5ad"
    table.adata[:0].copy().write_h5ad(path)
    return path


def _newer(table: object, writers: Writers, folder: Path) -> Path:
    made = writers["h5ad"](table, folder / "m.h5ad")
    with h5py.File(made, "r+") as file:
        file["obs"].attrs["encoding-version"] = "9.0.0"
    return made


def _text(name: str, content: str) -> Callable[..., Path]:
    def make(table: object, writers: Writers, folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def _last_line_gone(text: str) -> str:
    return text[: text.rindex("\n", 0, -1) + 1]


DAMAGED: list[tuple[str, Callable[..., Path], type[SwarmcellError], str]] = [
    ("no such file", lambda t, w, p: p / "none.h5ad", InputError, "no such file"),
    ("a letter", _text("letter.docx", "Dear colleague"), InputError, "not a single-cell file"),
    ("text named h5ad", _text("m.h5ad", "Dear colleague"), InputError, "not HDF5, though its name says so"),
    ("HDF5 of something else", lambda t, w, p: _other_hdf5(p), InputError, "neither AnnData nor a 10x matrix"),
    ("empty matrix", _empty, CellsError, "an empty matrix"),
    ("truncated h5ad", lambda t, w, p: _cut(w["h5ad"](t, p / "m.h5ad")), InputError, "truncated"),
    ("truncated 10x h5", lambda t, w, p: _cut(w["tenx"](t, p / "m.h5")), InputError, "truncated"),
    ("truncated gzip", lambda t, w, p: _cut(w["mtx"](t, p / "m") / "matrix.mtx.gz").parent, InputError, "truncated"),
    ("barcodes missing", _mtx_without("barcodes.tsv.gz"), InputError, r"barcodes.tsv \(or .gz\) is missing"),
    ("features missing", _mtx_without("features.tsv.gz"), InputError, "features.tsv or genes.tsv"),
    ("matrix missing", _mtx_without("matrix.mtx.gz"), InputError, "matrix.mtx"),
    ("gz that is plain", _renamed("matrix.mtx", "matrix.mtx.gz", False), InputError, "is not gzip, though"),
    ("plain that is gz", _renamed("matrix.mtx.gz", "matrix.mtx", True), InputError, "is gzip, though"),
    ("fewer barcodes", _mtx_with("barcodes.tsv", lambda s: s[:40]), InputError, "lists 3 cells, but .* has 23"),
    (
        "values missing",
        _mtx_with("matrix.mtx", lambda s: s[: s.rindex("\n", 0, -1) + 1]),
        InputError,
        "holds .* states",
    ),
    ("a value outside", _mtx_with("matrix.mtx", lambda s: s + "9 1 1\n"), InputError, "within 5 x 23"),
    ("no banner", _mtx_with("matrix.mtx", lambda s: s.split("\n", 1)[1]), InputError, "not a Matrix Market file"),
    ("pattern", _mtx_with("matrix.mtx", lambda s: s.replace("integer", "pattern")), InputError, "pattern general"),
    ("text for a value", _mtx_with("matrix.mtx", lambda s: s[:-2] + "x\n"), InputError, "cannot be read to its end"),
    ("NaN", _h5ad_with("X/data", np.nan, 3), CellsError, "NaN or infinite values .cell"),
    ("infinite", _h5ad_with("X/data", np.inf, 3), CellsError, "NaN or infinite"),
    ("negative", _h5ad_with("X/data", -1.0, 3), CellsError, "negative values .cell '[ACGT]+-1', feature '.*: -1.. Sc"),
    ("normalised", _h5ad_with("X/data", 0.5), CellsError, "holds no counts.*--input lognorm"),
    ("beyond int32", _h5ad_with("X/data", 1e12, 2), CellsError, "beyond 2"),
    ("column outside", _h5ad_with("X/indices", 99), InputError, "column index of 99 among 5"),
    ("newer encoding", _newer, InputError, "pip install -U anndata"),
    (
        "several genomes",
        lambda t, w, p: w["tenx"](t, p / "m.h5", genomes=("hg19", "mm10")),
        UsageError,
        "--genome hg19",
    ),
    (
        "only antibodies",
        lambda t, w, p: w["tenx"](t, p / "m.h5", types=["Antibody Capture"] * 5),
        CellsError,
        "holds no",
    ),
    ("table of text", _text("m.csv", "x,ACTB,B2M\nc1,a,b\n"), InputError, "holds text among its values"),
    ("table of neither", _text("m.csv", "x,a,b\nc,1,2\n"), UsageError, "--cells-in rows"),
    ("ragged table", _text("m.csv", "x,ACTB,B2M\nc1,1\n"), InputError, "3 names, its second 1 values"),
    ("table without rows", _text("m.csv", "x,ACTB\n"), InputError, "an empty matrix"),
]


def _other_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "m.h5", "w") as file:
        file["weights"] = np.zeros(3)
    return folder / "m.h5"


@pytest.mark.parametrize(("make", "kind", "says"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_damaged_input_is_refused_by_name(
    table: object,
    writers: Writers,
    tmp_path: Path,
    make: Callable[..., Path],
    kind: type[SwarmcellError],
    says: str,
) -> None:
    path = make(table, writers, tmp_path)
    with pytest.raises(kind, match=says) as caught:
        _counts(path)
    assert str(tmp_path) in str(caught.value)


# --- Sameness ---------------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_counts(table: object, written: Path) -> None:
    opened = open_source(written, ReadOptions())
    assert list(opened.obs.index) == table.barcodes
    assert [str(i)[:4] for i in opened.ids] == ["ENSG"] * 5
    blocks = list(opened.blocks())
    assert all(block.dtype == np.int32 for block in blocks)
    np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), table.counts.toarray())


@pytest.mark.parametrize("size", [1, 3, 7, 22, 23, 1000])
def test_blocks_of_any_size_give_the_same_counts(
    table: object, written: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarmcell.cells.readers import anndata_store, loom, tenx_mtx
    from swarmcell.cells.readers import table as tables

    for module in (source, anndata_store, loom, tables):
        monkeypatch.setattr(module, "BLOCK_ROWS", size)
    for module in (source, anndata_store, loom, tables, tenx_mtx):
        monkeypatch.setattr(module, "BLOCK_VALUES", 4 * size)
    np.testing.assert_array_equal(_counts(written), table.counts.toarray())


def test_source_can_be_read_twice(table: object, written: Path) -> None:
    opened = open_source(written, ReadOptions())
    first, second = (sparse.vstack(list(opened.blocks())) for _ in range(2))
    assert (first != second).nnz == 0


def test_mtx_whose_cells_are_not_in_order_is_read_whole(table: object, writers: Writers, tmp_path: Path) -> None:
    folder = writers["mtx"](table, tmp_path / "m", zipped=False)
    head, *values = (folder / "matrix.mtx").read_text().splitlines()[2:]
    lines = ["%%MatrixMarket matrix coordinate integer general", head, *reversed(values)]
    (folder / "matrix.mtx").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(_counts(folder), table.counts.toarray())


def test_other_feature_types_are_kept_out_with_a_note(table: object, writers: Writers, tmp_path: Path) -> None:
    types = ["Gene Expression", "Antibody Capture", "Gene Expression", "Gene Expression", "CRISPR Guide Capture"]
    opened = open_source(writers["tenx"](table, tmp_path / "m.h5", types=types), ReadOptions())
    assert list(opened.symbols) == ["TSPAN6", "DPM1", "SCYL3"]
    assert "kept out 1 'Antibody Capture', 1 'CRISPR Guide Capture'" in opened.notes[0]
    np.testing.assert_array_equal(_counts(opened.path), table.counts.toarray()[:, [0, 2, 3]])


def test_named_genome_is_read(table: object, writers: Writers, tmp_path: Path) -> None:
    path = writers["tenx"](table, tmp_path / "m.h5", genomes=("hg19", "mm10"))
    np.testing.assert_array_equal(_counts(path, ReadOptions(genome="mm10")), table.counts.toarray())
    with pytest.raises(UsageError, match="no genome 'rn6'"):
        open_source(path, ReadOptions(genome="rn6"))


@pytest.mark.parametrize("cells_in", ["rows", "columns"])
def test_orientation_of_a_table_can_be_said(tmp_path: Path, cells_in: str) -> None:
    (tmp_path / "m.csv").write_text("x,a,b,c\nr,1,2,3\ns,0,1,0\n")
    values = _counts(tmp_path / "m.csv", ReadOptions(cells_in=cells_in))
    expected = np.array([[1, 2, 3], [0, 1, 0]])
    np.testing.assert_array_equal(values, expected if cells_in == "rows" else expected.T)


def test_lognormalised_values_are_read_when_said(table: object, writers: Writers, tmp_path: Path) -> None:
    path = writers["h5ad"](table, tmp_path / "m.h5ad", slot="counts")
    values = _counts(path, ReadOptions(kind="lognorm"))
    np.testing.assert_allclose(values, np.log1p(table.counts.toarray()), rtol=1e-6)


@pytest.mark.parametrize(("value", "says"), [(None, "look like counts"), (30.5, "no logarithms")])
def test_what_is_not_lognormalised_is_refused_as_such(
    table: object, writers: Writers, tmp_path: Path, value: float | None, says: str
) -> None:
    path = writers["h5ad"](table, tmp_path / "m.h5ad")
    if value is not None:
        with h5py.File(path, "r+") as file:
            file["X/data"][0] = value
    with pytest.raises(CellsError, match=says):
        _counts(path, ReadOptions(kind="lognorm"))


def test_explicit_zeros_are_dropped(table: object, writers: Writers, tmp_path: Path) -> None:
    path = writers["h5ad"](table, tmp_path / "m.h5ad")
    with h5py.File(path, "r+") as file:
        file["X/data"][:5] = 0
    assert all((block.data > 0).all() for block in open_source(path, ReadOptions()).blocks())


def test_zipped_zarr_is_read(table: object, writers: Writers, tmp_path: Path) -> None:
    folder = writers["zarr"](table, tmp_path / "m.zarr")
    shutil.make_archive(str(folder), "zip", folder)
    np.testing.assert_array_equal(_counts(tmp_path / "m.zarr.zip"), table.counts.toarray())


def test_plain_and_gzipped_tables_are_the_same(table: object, writers: Writers, tmp_path: Path) -> None:
    path = writers["table"](table, tmp_path / "m.csv")
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(_counts(path), _counts(tmp_path / "z.csv.gz"))
