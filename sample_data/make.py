"""Make the simulated cohorts of this folder: `python sample_data/make.py [--out DIR]`.

Same seed, same values, on every machine. Nothing here was measured on a person.
"""

import argparse
import json
from pathlib import Path

import cytometry
import fcs
import numpy as np
import rna
import rna_files
from cohort import SITES, Site, specimens

SEED = 2021
WRITERS = {"site-a": rna_files.write_site_a, "site-b": rna_files.write_site_b, "site-c": rna_files.write_site_c}


def main() -> None:
    """Make both cohorts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    for folder in (out / "rna", out / "cytometry"):
        if folder.exists():
            parser.error(f"{folder} exists; remove it first")
    make_rna(out / "rna")
    make_cytometry(out / "cytometry")


def make_rna(folder: Path) -> None:
    """Make the RNA cohort: three sites in three formats, and the universe."""
    first, *others = np.random.SeedSequence(SEED).spawn(1 + len(SITES))
    truth = rna.biology(np.random.default_rng(first))
    for site, seed in zip(SITES, others, strict=True):
        rng = np.random.default_rng(seed)
        donors = specimens(site, rng)
        cells = rna.site_cells(site, donors, truth, rng)
        WRITERS[site.name](folder / site.name, cells, donors, rng)
    features = [{"aliases": [], "id": i, "symbol": symbol} for i, symbol in rna.genes()]
    _write_universe(folder, "rna", "log1p_cp10k", None, features)


def make_cytometry(folder: Path) -> None:
    """Make the cytometry cohort: FCS files of three cytometers, and the panel."""
    for site, seed in zip(SITES, np.random.SeedSequence(SEED + 1).spawn(len(SITES)), strict=True):
        _make_fcs_site(folder / site.name, site, np.random.default_rng(seed))
    features = [{"aliases": [], "id": marker, "symbol": marker} for marker in cytometry.MARKERS]
    _write_universe(folder, "cytometry", "arcsinh", 150.0, features)


def _make_fcs_site(folder: Path, site: Site, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    detectors = [f"{name}-A" for name in cytometry.FLUOROCHROMES]
    channels = [*cytometry.SCATTER, *detectors, cytometry.TIME]
    stains = ["", "", *_stain_names(site), ""]
    machine = cytometry.instrument(rng)
    keywords = {"$SPILLOVER": fcs.spillover_text(detectors, machine.spillover), "$CYT": f"Simulated {site.name}"}
    rows = ["file,donor,sample,condition\n"]
    for one in specimens(site, rng):
        fcs.write(folder / f"{one.name}.fcs", cytometry.events(site, one, machine, rng), channels, stains, keywords)
        rows.append(f"{one.name}.fcs,{one.donor},{one.name},{one.condition}\n")
    (folder / "samples.csv").write_text("".join(rows))


def _stain_names(site: Site) -> list[str]:
    """Name the stains as hospitals do: plain, with the fluorochrome, or in another case."""
    pairs = zip(cytometry.MARKERS, cytometry.FLUOROCHROMES, strict=True)
    if site.name == "site-b":
        return [f"{marker} {fluorochrome}" for marker, fluorochrome in pairs]
    return [marker.lower() if site.name == "site-c" else marker for marker, _ in pairs]


def _write_universe(
    folder: Path, modality: str, transform: str, cofactor: float | None, features: list[dict[str, object]]
) -> None:
    universe = {
        "cofactor": cofactor,
        "features": features,
        "format": 1,
        "modality": modality,
        "name": f"simulated {modality}",
        "reference": "simulated; not a real reference",
        "transform": transform,
    }
    (folder / "universe.json").write_text(json.dumps(universe, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
