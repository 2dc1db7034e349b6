"""Every file of `../shared/data/formats` is read as scanpy or anndata reads it, or refused with a clear error.

`EXPECTED` states which, file by file; a file that it does not name fails the last test.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scanpy as sc
from benchmarks.real_cases import DATA
from scipy import io, sparse

from swarmcell.cells.readers import ReadOptions, open_source
from swarmcell.errors import CellsError, InputError, SwarmcellError, UsageError

FORMATS = DATA / "formats"
WITH_RECORDS = "scanpy/src/scanpy/datasets/10x_pbmc68k_reduced.zarr.zip"  # its uns holds what older zarr cannot read
pytestmark = pytest.mark.skipif(not FORMATS.is_dir(), reason="../shared/data/formats is not there")
Peer = Callable[[Path], ad.AnnData]


@dataclass(frozen=True)
class Read:
    """Read, with `options`, as `peer` reads it."""

    peer: Peer
    options: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class Refused:
    """Refused, with a message that holds `says` (a pattern)."""

    kind: type[SwarmcellError]
    says: str


def _h5ad(path: Path) -> ad.AnnData:
    return ad.read_h5ad(path)


def _raw(path: Path) -> ad.AnnData:
    return _h5ad(path).raw.to_adata()


def _raw_zarr(path: Path) -> ad.AnnData:
    import zarr

    with zarr.storage.ZipStore(path, mode="r") as store:
        return ad.io.read_zarr(zarr.open_group(store, mode="r")).raw.to_adata()


def _counts_of_zarr(path: Path) -> ad.AnnData:
    import zarr

    with zarr.storage.ZipStore(path, mode="r") as store:
        stored = ad.io.read_zarr(zarr.open_group(store, mode="r"))
    return ad.AnnData(stored.layers["counts"], obs=stored.obs, var=stored.var)


def _h5(path: Path) -> ad.AnnData:
    return sc.read_10x_h5(path)


def _without_ids(path: Path) -> ad.AnnData:
    """Read a file that names its genes by symbol only, which scanpy does not."""
    with h5py.File(path) as file:
        stored = file["matrix"]
        parts = [stored[name][:] for name in ("data", "indices", "indptr")]
        made = ad.AnnData(sparse.csr_matrix(tuple(parts), shape=tuple(stored["shape"][:])[::-1]))
        made.obs_names, made.var_names = stored["barcodes"].asstr()[:], stored["features/name"].asstr()[:]
    return made


def _genome(path: Path) -> ad.AnnData:
    return sc.read_10x_h5(path, genome="hg19_chr21")


def _mtx(path: Path) -> ad.AnnData:
    return sc.read_10x_mtx(path, var_names="gene_ids")


def _plain_v3(path: Path) -> ad.AnnData:
    """Read v3 without gzip, which this scanpy does not."""
    made = ad.AnnData(sparse.csr_matrix(io.mmread(path / "matrix.mtx").T))
    made.obs_names = (path / "barcodes.tsv").read_text().split()
    made.var_names = [line.split("\t")[0] for line in (path / "features.tsv").read_text().splitlines()]
    return made


def _csv(path: Path) -> ad.AnnData:
    return ad.io.read_csv(path, first_column_names=True)


def _turned(path: Path) -> ad.AnnData:
    return _csv(path).T


def _tsv(path: Path) -> ad.AnnData:
    return ad.io.read_csv(path, delimiter="\t", first_column_names=True)


ROWS = ReadOptions(cells_in="rows")
NO_COUNTS = Refused(CellsError, "holds no counts.*--input lognorm")
NO_MATRIX = Refused(CellsError, "holds no matrix")
ARCHIVE = Refused(InputError, "Unpack the archive")
UNCLEAR = Refused(UsageError, "cannot tell cells from genes.*--cells-in")
NEGATIVE = Refused(CellsError, r"negative values \(cell '.*', feature '")

EXPECTED: dict[str, Read | Refused] = {
    "SOURCES.txt": UNCLEAR,
    "anndata/tests/data/adata-comments.tsv": UNCLEAR,
    "anndata/tests/data/adata.csv": Read(_csv, ROWS),
    "anndata/tests/data/archives/v0.5.0/adata.h5ad": NO_COUNTS,
    "anndata/tests/data/archives/v0.7.0/adata.h5ad": Read(_raw),
    "anndata/tests/data/archives/v0.7.0/adata.zarr.zip": Read(_raw_zarr),
    "anndata/tests/data/archives/v0.7.8/adata.h5ad": Read(_raw),
    "anndata/tests/data/archives/v0.7.8/adata.zarr.zip": Read(_raw_zarr),
    "anndata/tests/data/archives/v0.11.4/adata.h5ad": NO_MATRIX,
    "anndata/tests/data/archives/v0.11.4/adata.zarr.zip": NO_MATRIX,
    "anndata/tests/data/excel.xlsx": Refused(InputError, "Export the counts as csv"),
    "desc/desc/datasets/pbmc": Refused(InputError, "matrix.mtx .* is missing"),
    "desc/desc/datasets/pbmc_processed.h5ad": NO_COUNTS,
    "desc/desc/original/paul15_cluster.h5ad": Read(_h5ad),
    "liger/inst/extdata/ctrl.h5": Read(_without_ids),
    "liger/inst/extdata/stim.h5": Read(_without_ids),
    WITH_RECORDS: Read(_counts_of_zarr),
    "scanpy/tests/_data/10x_data/1.2.0/filtered_gene_bc_matrices/hg19_chr21": Read(_mtx),
    "scanpy/tests/_data/10x_data/1.2.0/filtered_gene_bc_matrices_h5.h5": Read(_h5),
    "scanpy/tests/_data/10x_data/1.2.0/multiple_genomes.h5": Read(_genome, ReadOptions(genome="hg19_chr21")),
    "scanpy/tests/_data/10x_data/3.0.0/filtered_feature_bc_matrix": Read(_mtx),
    "scanpy/tests/_data/10x_data/3.0.0/filtered_feature_bc_matrix.h5": Read(_h5),
    "scanpy/tests/_data/10x_data/int-ids": Read(_plain_v3),
    "scanpy/tests/_data/visium_data/1.0.0/filtered_feature_bc_matrix.h5": Read(_h5),
    "scanpy/tests/_data/visium_data/2.1.0/raw_probe_bc_matrix.h5": Refused(InputError, "counts of probes"),
    "scvi-tools/tests/test_data/10X/gene_info_pbmc.csv": UNCLEAR,
    "scvi-tools/tests/test_data/10X/neuron_9k/filtered_gene_bc_matrices/mm10": Read(_mtx),
    "scvi-tools/tests/test_data/GSE100866_CBMC_8K_13AB_10X-RNA_umi.csv.gz": Read(
        _turned, ReadOptions(cells_in="columns")
    ),
    "scvi-tools/tests/test_data/HEMATO/bBM.raw_umifm_counts.csv.gz": Refused(InputError, "holds text among its values"),
    "scvi-tools/tests/test_data/HEMATO/bBM.spring_and_pba.csv": UNCLEAR,
    "scvi-tools/tests/test_data/HEMATO/data.zip": ARCHIVE,
    "scvi-tools/tests/test_data/Layer2_BC_count_matrix-1.tsv": Read(_tsv),
    "scvi-tools/tests/test_data/Rep11_MOB_count_matrix-1.tsv": Read(_tsv),
    "scvi-tools/tests/test_data/TM_droplet_mat.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/brain_large.h5": Refused(InputError, "without the names of its cells and genes"),
    "scvi-tools/tests/test_data/brainlarge_dataset_test.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/exp_activation_totalvi/adata.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/filtered_gene_bc_matrices/hg19": Read(_mtx),
    "scvi-tools/tests/test_data/pbmc_10k_protein_v3.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/pbmc_5k_protein_v3.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/pre_logits_fix_scanvi/adata.h5ad": Read(_h5ad),
    "scvi-tools/tests/test_data/seqfishplus.zip": ARCHIVE,
    "seurat/tests/testdata": Read(_mtx),
    "seurat/tests/testdata/cr3.0": Read(_mtx),
    **{f"seurat/tests/testdata/{n}/filtered_feature_bc_matrix.h5": Read(_h5) for n in (
        "visium", "visium_hd/binned_outputs/square_008um", "visium_hd/binned_outputs/square_016um"
    )},
    **{f"scvi-tools/tests/test_data/10X/{name}/filtered_gene_bc_matrices.tar.gz": ARCHIVE for name in (
        "b_cells", "cd14_monocytes", "cd34", "cd4_t_helper", "cd56_nk", "cytotoxic_t", "memory_t", "naive_cytotoxic",
        "naive_t", "neuron_9k", "pbmc4k", "pbmc8k", "regulatory_t",
    )},
    "scvi-tools/tests/test_data/10X/pbmc_10k_protein_v3/filtered_feature_bc_matrix.tar.gz": ARCHIVE,
    **{f"scvi-tools/tests/test_data/citeSeq/{study}/{study}_{name}.csv.gz": expected for study in ("cbmc", "pbmc")
       for name, expected in (("adt", Read(_turned)), ("adt_centered", NEGATIVE), ("rna", Read(_turned)))},
    **{f"scvi-tools/tests/test_data/seqfishplus/sourcedata/{name}_cellcentroids.csv": UNCLEAR
       for name in ("cortex_svz", "ob")},
    **{f"scvi-tools/tests/test_data/seqfishplus/sourcedata/{name}_counts.csv": Read(_csv)
       for name in ("cortex_svz", "ob")},
}  # fmt: skip
READ = {name: one for name, one in EXPECTED.items() if isinstance(one, Read)}
REFUSED = {name: one for name, one in EXPECTED.items() if isinstance(one, Refused)}


@pytest.mark.parametrize("name", sorted(READ))
def test_a_file_is_read_as_its_peer_reads_it(name: str) -> None:
    expected = READ[name]
    if name == WITH_RECORDS and not _has_structs():
        with pytest.raises(InputError, match="Update: pip install -U zarr"):
            open_source(FORMATS / name, expected.options)
        return
    ours = open_source(FORMATS / name, expected.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other readers say of old files
        theirs = expected.peer(FORMATS / name)
    assert list(ours.obs.index) == list(theirs.obs_names)
    named = set(theirs.var_names) | set(theirs.var.get("gene_ids", ()))
    assert set(ours.ids) <= named
    assert len(ours.ids) == theirs.n_vars
    counts = sparse.vstack(list(ours.blocks()))
    assert (counts != sparse.csr_matrix(theirs.X).astype(np.int32)).nnz == 0


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_file_that_is_none_is_refused_with_its_name_and_a_remedy(name: str) -> None:
    expected = REFUSED[name]
    with pytest.raises(expected.kind, match=expected.says) as caught:
        list(open_source(FORMATS / name, ReadOptions()).blocks())
    assert Path(name).name in str(caught.value)


def _has_structs() -> bool:
    """Whether the installed zarr knows the type of records that this file was written with."""
    import zarr

    try:
        with zarr.storage.ZipStore(FORMATS / WITH_RECORDS, mode="r") as store:
            zarr.open_group(store, mode="r")["uns/rank_genes_groups/names"]
    except (ValueError, KeyError):
        return False
    return True


def test_every_file_has_an_expectation() -> None:
    folders = {FORMATS / name for name in EXPECTED if (FORMATS / name).is_dir()}
    files = [path for path in FORMATS.rglob("*") if path.is_file()]
    missing = [path for path in files if path.parent not in folders and str(path.relative_to(FORMATS)) not in EXPECTED]
    assert missing == []
