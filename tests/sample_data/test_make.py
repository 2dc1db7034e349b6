"""The committed sample data is what the seeded script makes, and holds what the README says."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "sample_data"
BYTES_MAX = 10_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample_data")
    assert _make(out).returncode == 0
    return out


def _make(out):
    script = [sys.executable, FOLDER / "make.py", "--out", out]
    return subprocess.run(script, check=False, capture_output=True, text=True)


def _files(folder):
    kept = (path.relative_to(folder) for part in ("rna", "cytometry") for path in (folder / part).rglob("*"))
    return sorted(path for path in kept if (folder / path).is_file())


def _content(path):
    """What a file says, whatever the version of the compressor: a digest of bytes, or of values for HDF5."""
    if path.suffix == ".gz":
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    if path.suffix not in (".h5", ".h5ad"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    with h5py.File(path) as file:
        file.visititems(lambda name, item: digest.update(_values(name, item)))
    return digest.hexdigest()


def _values(name, item):
    if not isinstance(item, h5py.Dataset):
        return name.encode()
    values = item.asstr()[()] if item.dtype.kind == "O" else item[()]
    return f"{name}{item.shape}{np.asarray(values).tolist()}".encode()


def test_script_makes_the_committed_values_again(made):
    assert _files(made) == _files(FOLDER)
    assert {path: _content(made / path) for path in _files(made)} == {p: _content(FOLDER / p) for p in _files(FOLDER)}


def test_script_refuses_to_overwrite(made):
    again = _make(made)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_sample_data_stay_small():
    assert sum((FOLDER / path).stat().st_size for path in _files(FOLDER)) < BYTES_MAX


def _sheets(modality, site):
    if (modality, site) == ("rna", "site-c"):
        obs = anndata.read_h5ad(FOLDER / "rna/site-c/cells.h5ad").obs
        return obs.drop_duplicates("sample"), set(obs["cell_type"])
    samples = pd.read_csv(FOLDER / modality / site / "samples.csv")
    cells = FOLDER / modality / site / "cells.csv.gz"
    return samples, set(pd.read_csv(cells)["cell_type"]) if cells.exists() else set()


@pytest.mark.parametrize("modality", ["rna", "cytometry"])
@pytest.mark.parametrize("site", ["site-a", "site-b", "site-c"])
def test_every_site_has_8_donors_of_two_conditions(modality, site):
    samples, _ = _sheets(modality, site)
    assert samples["donor"].nunique() >= 8
    assert samples["condition"].nunique() == 2
    assert (samples.groupby("donor", observed=True)["condition"].nunique() == 1).all()


def test_every_site_has_5_cell_types_and_site_a_lacks_one():
    types = {site: _sheets("rna", site)[1] for site in ("site-a", "site-b", "site-c")}
    assert min(map(len, types.values())) >= 5
    assert types["site-b"] - types["site-a"] == {"plasmablast"}
    assert types["site-b"] == types["site-c"]


def test_no_donor_is_at_two_sites():
    donors = [set(_sheets("rna", site)[0]["donor"]) for site in ("site-a", "site-b", "site-c")]
    assert len(set.union(*donors)) == sum(map(len, donors))
