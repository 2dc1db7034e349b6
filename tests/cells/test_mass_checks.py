import numpy as np

from swarmcell.cells.events import Label, technology_of
from swarmcell.cells.mass_checks import BARCODE_METALS, BEAD_METALS, unprocessed

RNG = np.random.default_rng(1)


def test_beads_that_are_left_in_a_file_are_warned_of() -> None:
    labels = [Label(f"{metal}Di") for metal in BEAD_METALS]
    cells = RNG.exponential(20, (2000, 5)).astype(np.float32)
    assert unprocessed(cells, np.arange(2000), labels) == []
    cells[:40] = RNG.normal(1000, 50, (40, 5))
    assert "2.0% of events look like normalisation beads" in unprocessed(cells, np.arange(2000), labels)[0]


def test_several_barcodes_in_one_file_are_warned_of() -> None:
    labels = [Label(f"{metal}Di") for metal in BARCODE_METALS]
    counts = RNG.exponential(2, (900, 6)).astype(np.float32)
    counts[:, :3] += 300
    assert unprocessed(counts, np.arange(900), labels) == []
    counts[:450] = counts[:450, ::-1]
    assert "2 palladium barcodes in one file" in unprocessed(counts, np.arange(900), labels)[0]


def test_technologies_are_told_apart() -> None:
    metals = (Label("Eu153Di", "CD4"), Label("Nd142Di", "CD8"), Label("CD3(110:114)Dd", "CD3"))
    assert technology_of(metals, {}) == "mass"
    assert technology_of((Label("FITC-A", "CD4"),), {}) == "flow"
    assert technology_of((Label("FITC-A", "CD4"),), {"$CYT": "DVSSCIENCES-CYTOF-5.1.602"}) == "mass"
    assert technology_of((Label("FITC-A", "CD4"),), {"$CYT": "Aurora"}) == "spectral"
    assert technology_of(tuple(Label(f"V{n}-A") for n in range(1, 25)), {}) == "spectral"
