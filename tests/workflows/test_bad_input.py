"""What hospitals' files get wrong, one case each: an error that names file, place and remedy, or a note that says it.

Each case changes one thing in a site that is well. Cases that are refused leave nothing behind; those that are read
give the same counts as the site that is well.
"""

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse

from swarmcell.cells import panel, schema
from swarmcell.cells.panel import Feature, Panel
from swarmcell.config.preprocess import load
from swarmcell.errors import CellsError, InputError, PanelError, SwarmcellError, UsageError
from swarmcell.workflows.preprocess import preprocess

GENES = ["MT-CO1", "RPL3", "ACTB", "GAPDH", "CD3D", "CD19", *(f"GENE{i}" for i in range(34))]
NO_QC = {"min_genes": 0, "min_counts": 0, "max_mito_share": 1, "doublets": "off"} | {
    f"mads_{name}": 0 for name in ("counts", "genes", "top20", "mito")
}
N_CELLS, N_DONORS = 120, 4
Make = Callable[[Path], Path]


def site() -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2.0, (N_CELLS, len(GENES))).astype(np.float32))
    donors = [f"p{i % N_DONORS}" for i in range(N_CELLS)]
    obs = {"donor": donors, "condition": ["ill" if d in ("p0", "p1") else "well" for d in donors]}
    barcodes = ["".join(rng.choice(list("ACGT"), 16)) + "-1" for _ in range(N_CELLS)]
    return ad.AnnData(counts, pd.DataFrame(obs, index=barcodes), pd.DataFrame(index=GENES))


def h5ad(change: Callable[[ad.AnnData], None] = lambda a: None, name: str = "site.h5ad") -> Make:
    def make(folder: Path) -> Path:
        adata = site()
        change(adata)
        adata.write_h5ad(folder / name, compression="gzip")
        return folder / name

    return make


def stored(change: Callable[[h5py.File], None]) -> Make:
    """The site as .h5ad, changed on disk."""

    def make(folder: Path) -> Path:
        path = h5ad()(folder)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def tenx(change: Callable[[Path], None] = lambda p: None, *, kind: str = "Gene Expression") -> Make:
    """The site as a 10x folder with a sheet of cells."""

    def make(folder: Path) -> Path:
        adata, made = site(), folder / "lane"
        made.mkdir()
        io.mmwrite(made / "matrix.mtx", adata.X.astype(int).T.tocoo(), field="integer")
        (made / "barcodes.tsv").write_text("".join(f"{name}\n" for name in adata.obs_names))
        (made / "features.tsv").write_text("".join(f"{name}\t{name}\t{kind}\n" for name in GENES))
        adata.obs.to_csv(made / "cells.csv", index_label="barcode")
        change(made)
        return made

    return make


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Make:
    def make(folder: Path) -> Path:
        adata = site()
        adata.obs.to_csv(folder / "cells.csv", index_label="barcode")
        change(pd.DataFrame(adata.X.toarray().astype(int), adata.obs_names, GENES)).to_csv(folder / "site.csv")
        return folder / "site.csv"

    return make


def loom(turned: bool) -> Make:
    def make(folder: Path) -> Path:
        adata = site()
        adata.obs.to_csv(folder / "cells.csv", index_label="barcode")
        with h5py.File(folder / "site.loom", "w") as file:
            file["matrix"] = adata.X.toarray() if turned else adata.X.toarray().T
            file["row_attrs/Gene"], file["col_attrs/CellID"] = np.array(GENES, "S"), np.array(adata.obs_names, "S")
        return folder / "site.loom"

    return make


def genomes(folder: Path) -> Path:
    with h5py.File(folder / "site.h5", "w") as file:
        for name in ("hg19", "mm10"):
            group, counts = file.create_group(name), site().X.astype(np.int32)
            group["barcodes"], group["shape"] = np.array(site().obs_names, "S"), np.array(counts.shape[::-1])
            group["genes"] = group["gene_names"] = np.array(GENES, "S")
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(counts, part)
    return folder / "site.h5"


def lanes(sheet: str) -> Make:
    """Two lanes with the same barcodes, and a sheet of samples."""

    def make(folder: Path) -> Path:
        made, half = folder / "site", site()
        made.mkdir()
        for n in range(2):
            part = half[60 * n : 60 * n + 60].copy()
            part.obs_names = [f"B{i}" for i in range(60)]
            part.obs = pd.DataFrame(index=part.obs_names)
            part.write_h5ad(made / f"s{n}.h5ad")
        (made / "samples.csv").write_text(sheet)
        return made

    return make


SHEET = "file,donor,condition\ns0.h5ad,p0,ill\ns1.h5ad,p1,well\n"


def cut(make: Make) -> Make:
    def changed(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        return path

    return changed


def _value(value: float) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.X.data[7] = value

    return change


def _log(adata: ad.AnnData) -> None:
    adata.X = adata.X.log1p()


def _gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _zipped(folder: Path) -> None:
    content = (folder / "matrix.mtx").read_bytes()
    (folder / "matrix.mtx").write_bytes(gzip.compress(content))


def _plain_gz(folder: Path) -> None:
    (folder / "matrix.mtx").rename(folder / "matrix.mtx.gz")


def _layout(turn: Callable[[Any], Any]) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.X = turn(adata.X)

    return change


def _mixed_indices(file: h5py.File) -> None:
    for name, kind in (("indices", np.int64), ("indptr", np.int32)):
        values = file["X"][name][:].astype(kind)
        del file["X"][name]
        file["X"][name] = values


def _huge(file: h5py.File) -> None:
    """Claim 2^31 + 1 values, as the last row's end."""
    indptr = file["X/indptr"][:].astype(np.int64)
    indptr[-1] = 2**31 + 1
    del file["X/indptr"]
    file["X/indptr"] = indptr


def _unknown_filter(file: h5py.File) -> None:
    """Store values by a filter that nobody has."""
    values = file["X/data"][:]
    del file["X/data"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((len(values),))
    made.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((len(values),))
    identifier = h5py.h5d.create(file["X"].id, b"data", h5py.h5t.NATIVE_FLOAT, space, made)
    identifier.write_direct_chunk((0,), values.tobytes())


def _newer(file: h5py.File) -> None:
    file["obs"].attrs["encoding-version"] = "9.0.0"


def _genes(*first: str) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.var_names = [*first, *GENES[len(first) :]]

    return change


def _mouse(adata: ad.AnnData) -> None:
    adata.var_names = [f"ENSMUSG{i:011d}" for i in range(len(GENES))]


def _label(column: str, value: str | None, *, all_cells: bool = False) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        if all_cells:
            adata.obs[column] = value
        else:
            adata.obs.iloc[3, adata.obs.columns.get_loc(column)] = value

    return change


def _same_barcode(adata: ad.AnnData) -> None:
    adata.obs["sample"] = adata.obs["donor"].to_numpy()
    adata.obs_names = [name if i > 3 else "SAME" for i, name in enumerate(adata.obs_names)]


def _one_donor(adata: ad.AnnData) -> None:
    adata.obs["donor"], adata.obs["condition"] = "p0", "ill"


def _universe(folder: Path, features: tuple[Feature, ...]) -> Path:
    panel.dump(Panel("study", "rna", "", features), folder / "universe.json")
    return folder / "universe.json"


HUMAN = tuple(Feature(f"ENSG{i:011d}") for i in range(len(GENES)))
OTHERS = tuple(Feature(name) for name in (*GENES[:20], *(f"OTHER{i}" for i in range(20))))


@dataclass(frozen=True)
class Bad:
    """Refused with `kind`, by a message that matches `says`."""

    make: Make
    kind: type[SwarmcellError]
    says: str
    settings: dict[str, Any] = field(default_factory=dict)
    universe: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class Said:
    """Read; a note matches `says`."""

    make: Make
    says: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


BAD = {
    "normalised X without counts": Bad(h5ad(_log), CellsError, "holds no counts.*--input lognorm"),
    "negative counts": Bad(h5ad(_value(-2)), CellsError, r"negative values \(cell '[ACGT]+-1', feature '.*': -2\)"),
    "NaN": Bad(h5ad(_value(np.nan)), CellsError, "NaN or infinite values .*Mend or remove"),
    "infinite": Bad(h5ad(_value(np.inf)), CellsError, "NaN or infinite values"),
    "a file that claims 2^31 values and has few": Bad(stored(_huge), InputError, "truncated"),
    "transposed loom": Bad(loom(turned=True), InputError, "if it is transposed, write it"),
    "missing barcodes": Bad(tenx(_gone("barcodes.tsv")), InputError, r"barcodes.tsv \(or .gz\) is missing"),
    "missing features": Bad(tenx(_gone("features.tsv")), InputError, "features.tsv or genes.tsv .*is missing"),
    "plain content named .gz": Bad(tenx(_plain_gz), InputError, "is not gzip, though.*Rename it to matrix.mtx"),
    "gzip content without .gz": Bad(tenx(_zipped), InputError, "is gzip, though.*Rename it to matrix.mtx.gz"),
    "several genomes without a choice": Bad(genomes, UsageError, "several genomes .hg19, mm10.*--genome hg19"),
    "a barcode twice in a sample": Bad(
        h5ad(lambda a: (_same_barcode(a), _label("sample", "s", all_cells=True)(a))), CellsError, "2 donors|there twice"
    ),
    "dates for genes": Bad(h5ad(_genes("1-Mar", "2-Sep")), PanelError, "2 gene names are dates .*without a spread"),
    "wrong species": Bad(h5ad(_mouse), PanelError, "universe is of human, the file of mouse", universe=HUMAN),
    "overlap below the rule": Bad(h5ad(), PanelError, r"20 of the universe's 40 features \(50%\)", universe=OTHERS),
    "newer encoding": Bad(stored(_newer), InputError, "pip install -U anndata"),
    "missing codec plug-in": Bad(stored(_unknown_filter), InputError, "pip install hdf5plugin"),
    "truncated file": Bad(cut(h5ad()), InputError, "truncated"),
    "sheet with a missing file": Bad(lanes(SHEET.replace("s1", "s9")), InputError, "names 's9.h5ad', which is not"),
    "a donor with two conditions": Bad(
        h5ad(_label("condition", "ill")), CellsError, "sample 'p3' has 2 conditions .*Give each specimen its own sample"
    ),
    "unknown label": Bad(
        h5ad(), CellsError, "unknown condition 'ill'.*Rename it under", {"labels": {"conditions": ["sick", "well"]}}
    ),
    "no cell left after QC": Bad(h5ad(), CellsError, "no cell is left of 120 .few_genes 120.*Loosen", {"qc": {}}),
    "one donor": Bad(h5ad(_one_donor), CellsError, "--split"),
}  # fmt: skip

SAID = {
    "the site that is well": Said(h5ad(), "counts taken from X"),
    "CSC": Said(h5ad(_layout(lambda x: x.tocsc())), r"by columns \(CSC\)"),
    "dense": Said(h5ad(_layout(lambda x: x.toarray())), "counts taken from X"),
    "mixed index types": Said(stored(_mixed_indices), "counts taken from X"),
    "table of cells": Said(table(lambda t: t), "cells in rows"),
    "transposed table": Said(table(lambda t: t.T), "cells in columns"),
    "loom": Said(loom(turned=False)),
    "10x": Said(tenx()),
    "one condition": Said(h5ad(_label("condition", "ill", all_cells=True)), "one condition .ill.*patient task"),
}


def _run(case: Bad | Said, folder: Path) -> tuple[Path, dict[str, Any]]:
    source, out = case.make(folder), folder / "out.h5ad"
    settings = {"qc": NO_QC, **case.settings}
    if isinstance(case, Bad) and case.universe:
        settings["universe"] = _universe(folder, case.universe)
    made = preprocess(source, load(None, settings), out, observer=lambda *_: None)
    return out, made.summary


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(BAD[name].kind, match=BAD[name].says) as caught:
        _run(BAD[name], tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message or "site" in message or "lane" in message  # who it is about
    assert message.rstrip().endswith((".", ")"))
    assert not list(tmp_path.glob("*out.h5ad*"))


@pytest.mark.parametrize("name", SAID)
def test_unusual_input_is_read_and_said(name: str, tmp_path: Path) -> None:
    out, summary = _run(SAID[name], tmp_path)
    assert any(re.search(SAID[name].says, note) for note in [*summary["notes"], ""])
    made, expected = schema.read_prepared(out), site()
    made = made[expected.obs_names, expected.var_names]
    np.testing.assert_array_equal(made.layers["counts"].toarray(), expected.X.toarray())


def test_barcodes_that_repeat_across_samples_carry_the_samples_name(tmp_path: Path) -> None:
    out, _ = _run(Said(lanes(SHEET.replace("p1,well", "p1,ill") + "")), tmp_path)
    made = schema.read_prepared(out)
    assert made.obs_names[0] == "s0:B0"
    assert made.obs_names[60] == "s1:B0"


def test_duplicate_genes_are_summed_as_integers(tmp_path: Path) -> None:
    features = tuple(Feature(name) for name in GENES[1:])
    path = h5ad(_genes("RPL3"))(tmp_path)  # twice, now
    settings = {"qc": NO_QC, "universe": _universe(tmp_path, features)}
    preprocess(path, load(None, settings), tmp_path / "out.h5ad", observer=lambda *_: None)
    made = schema.read_prepared(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(made.layers["counts"][:, 0].toarray(), site().X[:, :2].sum(axis=1))
    assert made.layers["counts"].dtype == np.int32


def test_an_unfiltered_matrix_is_said_with_its_empty_droplets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (60, 5000)).astype(np.float32)
    counts[20:] = rng.poisson(0.002, (40, 5000))
    obs = pd.DataFrame({"donor": [f"p{i % 4}" for i in range(60)]}, index=[f"c{i}" for i in range(60)])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(5000)])
    ad.AnnData(sparse.csr_matrix(counts), obs, var).write_h5ad(tmp_path / "raw.h5ad")
    made = preprocess(tmp_path / "raw.h5ad", load(None, {"qc": {**NO_QC, "min_counts": 100}}), tmp_path / "out.h5ad",
                      observer=lambda *_: None)  # fmt: skip
    assert any("40 of 60 barcodes" in note and "unfiltered" in note for note in made.summary["notes"])
