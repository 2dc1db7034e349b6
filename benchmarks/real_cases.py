"""Studies on real input: measured cells of people and animals, cut into sites, through the real command line.

Rules: a case cuts one laboratory's published set into sites at run time, so a swarm of them shows that the path works
on real input; it does not show how a model travels between real hospitals. Floors are lowered: every set is small.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cli_study import Outcome, Plan, alone, in_a_swarm

DATA = Path(__file__).parents[2] / "shared" / "data"
NO_QC = """\
[qc]
min_genes = 0
min_counts = 0
mads_counts = 0.0
mads_genes = 0.0
mads_top20 = 0.0
mads_mito = 0.0
max_mito_share = 1.0
"""
RULES = """\
[study.floors]
donors = 1
cells = 1

[swarm]
f = 0
"""
MICE = {  # two mock and two infected mice each, in the order of acquisition
    "site-a": ("mouse_037", "mouse_038", "mouse_043", "mouse_044"),
    "site-b": ("mouse_039", "mouse_040", "mouse_045", "mouse_046"),
    "site-c": ("mouse_041", "mouse_042", "mouse_047", "mouse_048"),
}
PATIENTS = {  # 11 to 15 have leukaemia, 16 to 20 have not; each site sees both
    "site-a": ("11", "12", "16", "17"),
    "site-b": ("13", "14", "18"),
    "site-c": ("15", "19", "20"),
}
STIMULATED = {"site-a": ("Patient1", "Patient2"), "site-b": ("Patient3", "Patient4")}


@dataclass(frozen=True)
class Case:
    """One data set and what is asked of it.

    Attributes
    ----------
    run
        Of the folder of real data and an empty one: runs its studies, one per fold.
    task
        `cell` or `patient`.
    caveat
        What a reader must know.
    """

    title: str
    run: Callable[[Path, Path], list[Outcome]]
    task: str
    figures: tuple[str, ...]
    caveat: str


def leave_one_donor_out(data: Path, folder: Path) -> list[Outcome]:
    """Kang et al.: three patients, one per site; two train in a swarm, the third is held out; all three folds."""
    source = data / "rna" / "kang3_100genes.h5ad"
    sources, types = by_column(source, folder, "donor")
    outcomes = []
    for held in sources:
        plan = Plan(
            sources=sources,
            universe_of=source,
            modality="rna",
            preprocess=preprocess_rna("counts", held),
            study=study_of_cells("kang-2018-100-genes", types),
            peers=tuple(site for site in sources if site != held),
            evaluated=(held,),
        )
        outcomes.append(in_a_swarm(plan, fold(folder, held)))
    return outcomes


def other_site(data: Path, folder: Path, *, name: str, value: str) -> list[Outcome]:
    """Train at one of two sites and test at the other, both ways: two donors are too few for a swarm."""
    source = data / "rna" / f"{name}.h5ad"
    sources, types = by_column(source, folder, "donor")
    outcomes = []
    for held in sources:
        (trained,) = (site for site in sources if site != held)
        plan = Plan(
            sources=sources,
            universe_of=source,
            modality="rna",
            preprocess=preprocess_rna(value, held),
            study=study_of_cells(name, types),
            peers=(trained,),
            evaluated=(held,),
            panel_options=("--input", value),
        )
        outcomes.append(alone(plan, fold(folder, held)))
    return outcomes


def kang_two_donors(data: Path, folder: Path) -> list[Outcome]:
    """Kang et al., more genes, two patients."""
    return other_site(data, folder, name="kang2_muscat", value="counts")


def two_chemistries(data: Path, folder: Path) -> list[Outcome]:
    """PBMC by two chemistries of 10x, log-normalised by whoever published them."""
    return other_site(data, folder, name="pbmc_3prime_lognorm", value="lognorm")


def infected_mice(data: Path, folder: Path) -> list[Outcome]:
    """Bone marrow of twelve mice, mock or West Nile virus: four mice per site, two of them held out."""
    source = data / "cytometry" / "wnv12_mouse_bm_flow.h5ad"
    sources = {site: part(source, folder / f"{site}-measured.h5ad", "donor", mice) for site, mice in MICE.items()}
    return [_patients(sources, source, folder, "wnv-mouse-bone-marrow", ("Mock", "WNV"))]


def leukaemia(data: Path, folder: Path) -> list[Outcome]:
    """Acute myeloid leukaemia: ten patients' FCS files as acquired, three sites."""
    source = data / "cytometry" / "aml_flow"
    sources = {}
    for site, numbers in PATIENTS.items():
        files = [f"sample{number}.fcs" for number in numbers]
        sources[site] = part_of_folder(source, folder / f"{site}-measured", files)
    return [_patients(sources, source, folder, "aml-flow", ("normal", "aml"))]


def stimulated_blood(data: Path, folder: Path) -> list[Outcome]:
    """Mass cytometry of four patients' blood, each as it was and with crosslinked B cell receptors: two sites."""
    source = data / "cytometry" / "bcrxl_cytof"
    sources = {}
    for site, patients in STIMULATED.items():
        files = [f"PBMC_{patient.lower()}_{kind}.fcs" for patient in patients for kind in ("Ref", "BCRXL")]
        sources[site] = part_of_folder(source, folder / f"{site}-measured", files)
    return [_patients(sources, source, folder, "bcrxl-cytof", ("Ref", "BCRXL"), sample="sample_id")]


CASES = {
    "kang3": Case(
        "PBMC, 3 donors, 100 genes: cell type",
        leave_one_donor_out,
        "cell",
        ("balanced_accuracy", "accuracy"),
        "one donor per site; each row holds one donor out and trains on the two others",
    ),
    "wnv12": Case(
        "Mouse bone marrow, 12 mice, 22 markers: infected or mock",
        infected_mice,
        "patient",
        ("auroc", "balanced_accuracy"),
        "infected and mock mice were measured one after the other: a drift of the instrument separates them too",
    ),
    "aml": Case(
        "AML, 10 patients, 5 markers: leukaemia or not",
        leukaemia,
        "patient",
        ("auroc", "balanced_accuracy"),
        "500 events per patient; four patients are held out, so the interval says almost nothing",
    ),
    "bcrxl": Case(
        "CyTOF, 4 patients, 24 markers: stimulated or not",
        stimulated_blood,
        "patient",
        ("auroc", "balanced_accuracy"),
        "a stimulus, not a disease; two patients with two samples each are held out",
    ),
    "kang2": Case(
        "PBMC, 2 donors, 1267 genes: cell type",
        kang_two_donors,
        "cell",
        ("balanced_accuracy", "accuracy"),
        "too few donors for a swarm: trained on one, tested on the other; the donors are two of the three above",
    ),
    "pbmc": Case(
        "PBMC, 2 chemistries, log-normalised: cell type",
        two_chemistries,
        "cell",
        ("balanced_accuracy", "accuracy"),
        "too few sites for a swarm; what the set calls a donor is a chemistry, and some types have under 5 cells",
    ),
}


def _patients(
    sources: dict[str, Path],
    universe_of: Path,
    folder: Path,
    name: str,
    conditions: tuple[str, str],
    *,
    sample: str = "sample",
) -> Outcome:
    plan = Plan(
        sources=sources,
        universe_of=universe_of,
        modality="cytometry",
        preprocess=preprocess_cytometry(sample),
        study=study_of_patients(name, conditions),
        peers=tuple(sources),
        evaluated=tuple(sources),
    )
    return in_a_swarm(plan, folder)


def preprocess_rna(value: str, held_out: str) -> str:
    """Return a configuration for RNA: every cell kept, one site held out whole."""
    split = f'[split]\nkind = "by-site"\nheld_out_sites = ["{held_out}"]\n'
    return f'modality = "rna"\nuniverse = "universe.json"\ninput = "{value}"\n\n{NO_QC}\n{split}'


def preprocess_cytometry(sample: str) -> str:
    """Return a configuration for cytometry: half of each site's donors held out, in each condition alike."""
    split = '[split]\nkind = "within-site"\nheld_out_share = 0.5\nseed = 0\n'
    return f'modality = "cytometry"\nuniverse = "universe.json"\n\n[columns]\nsample = "{sample}"\n\n{split}'


def study_of_cells(name: str, types: Sequence[str]) -> str:
    """Return the rules of a study of cell types, by the defaults but for the floors."""
    head = f'[study]\nname = "{name}"\nmodality = "rna"\nstages = ["features", "cell"]\nuniverse = "universe.json"\n'
    return f"{head}cell_types = {_strings(types)}\n\n{RULES}"


def study_of_patients(name: str, conditions: Sequence[str]) -> str:
    """Return the rules of a study of conditions, by the defaults but for the floors."""
    head = f'[study]\nname = "{name}"\nmodality = "cytometry"\nstages = ["features", "patient"]\n'
    return f'{head}universe = "universe.json"\nconditions = {_strings(conditions)}\n\n{RULES}'


def _strings(texts: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def fold(folder: Path, held: str) -> Path:
    """Return a new folder for the fold that holds this site out."""
    made = folder / f"without-{held}"
    made.mkdir()
    return made


def by_column(source: Path, folder: Path, column: str) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Write one file per value of an obs column, and return them by site with all cell types."""
    import anndata as ad  # noqa: PLC0415 (the figures of other cases need it not)

    obs = ad.read_h5ad(source, backed="r").obs
    found = sorted(obs[column].astype(str).unique())
    types = tuple(sorted(obs["cell_type"].astype(str).unique()))
    names = {one: f"site-{one.removeprefix('patient_')}" for one in found}
    return {name: part(source, folder / f"{name}-measured.h5ad", column, (one,)) for one, name in names.items()}, types


def part(source: Path, target: Path, column: str, values: Sequence[str]) -> Path:
    """Write the rows of an .h5ad whose obs column has one of the values."""
    import anndata as ad  # noqa: PLC0415

    adata = ad.read_h5ad(source)
    adata[adata.obs[column].astype(str).isin(values).to_numpy()].copy().write_h5ad(target)
    return target


def part_of_folder(source: Path, target: Path, files: Sequence[str]) -> Path:
    """Copy some files of a folder, with their rows of the sheet."""
    target.mkdir()
    head, *rows = (source / "samples.csv").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if row.split(",")[0] in files]
    (target / "samples.csv").write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    for name in files:
        shutil.copyfile(source / name, target / name)
    return target
