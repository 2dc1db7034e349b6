# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Strata of patients: beside scikit-learn on pooled samples, where there are none, on real input, and on many donors.

Run: `python -m benchmarks strata`. Real input is skipped where ../shared/data is not there.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.real_cases import DATA, MICE, PATIENTS, STIMULATED

REPEATS = 1
ROOT = Path(__file__).parents[1]
PLANTED_SEEDS, NULL_SEEDS, CLUSTER_SEEDS = 40, 40, 5
N_SITES, N_DONORS, N_CELLS, N_MARKERS = 10, 1000, 10_000, 20
GOALS = {"centres_max": 1e-6, "seconds_max": 120, "memory_mb_max": 1000, "false_share_max": 0.05}


def figures(repeats: int) -> Iterator[Figure]:
    """Yield agreement with pooled k-means, how often strata are found where there are none, real input, and scale."""
    for separation in (1.0, 0.5):
        yield from _planted(separation)
    yield from _structureless()
    if DATA.is_dir():
        yield from _clusters()
    if DATA.is_dir():
        for name in ("wnv12", "aml_flow", "bcrxl_cytof", "kang3"):
            yield from _real(name)
    with tempfile.TemporaryDirectory() as scratch:
        files = _many_donors(Path(scratch))
        runs = [_measured(files, Path(scratch) / f"out-{n}") for n in range(repeats)]
    what = f"{N_DONORS:,} donors x {N_CELLS:,} cells x {N_MARKERS} markers, {N_SITES} sites in one place"
    yield Figure(what, "s", tuple(run["seconds"] for run in runs), GOALS["seconds_max"])
    yield Figure(f"{what}, peak memory", "MB", tuple(run["peak_mb"] for run in runs), GOALS["memory_mb_max"])


def _cohort(seed: int, *, n: int, strata: int, separation: float, batch: float):
    """Return a table of samples at three unequal sites, and what was planted."""
    import numpy as np

    from swarmcell.model.strata.table import SampleTable, blocks_of

    rng = np.random.default_rng(seed)
    planted, p = rng.integers(0, strata, n), 25
    site = np.sort(rng.choice(3, n, p=(0.6, 0.3, 0.1)))
    centres, shift = rng.normal(size=(strata, p)) * separation, rng.normal(size=(3, p)) * batch
    names = tuple(map(str, range(n)))
    table = SampleTable(
        blocks=blocks_of("rna", [f"t{i}" for i in range(5)], [f"g{i}" for i in range(p - 5)]),
        features=centres[planted] + shift[site] + rng.normal(size=(n, p)) * 0.5,
        sites=tuple(f"site-{s}" for s in site),
        donors=names,
        samples=names,
        n_cells=np.full(n, 500),
        condition=np.full(n, -1),
    )
    return table, planted


def _solved(table, seed: int):
    from swarmcell.model.strata.rounds import Stratifier
    from swarmcell.model.strata.state import from_bytes
    from swarmcell.model.study import Floors, StrataRule, Study

    types, floors = tuple(f"t{i}" for i in range(5)), Floors(donors=1, cells=1)
    study = Study(name="bench", modality="rna", cell_types=types, floors=floors, seed=seed, strata=StrataRule())
    sites = [Stratifier(study, part) for part in table.by_site()]
    raw, stop = sites[0].start(), threading.Event()
    while not from_bytes(raw).finished:
        raw = sites[0].merge(raw, [site.contribute(raw, stop) for site in sites]).state
    return from_bytes(raw), study


def _planted(separation: float) -> Iterator[Figure]:
    """Yield whether the planted number is taken, and whether the strata are those of k-means on the pooled samples."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    from swarmcell.model.strata import kmeans
    from swarmcell.model.strata.rounds import rows

    right, alike, apart, recovered, pooled = [], [], [], [], []
    for seed in range(PLANTED_SEEDS):
        strata = 2 + seed % 4
        table, planted = _cohort(seed, n=80, strata=strata, separation=separation, batch=0.15)
        state, study = _solved(table, seed)
        right.append(float(state.k == strata))
        if not state.k:
            continue
        own = rows(table, state, study.strata).coordinates
        labels = kmeans.nearest(own, state.arrays["stratum_centres"][None])[0]
        peer = KMeans(state.k, n_init=50, random_state=0, tol=0).fit(own / 2.0**24)
        alike.append(adjusted_rand_score(peer.labels_, labels))
        mine = state.arrays["stratum_centres"] / 2.0**24
        apart.append(float(np.abs(mine[:, None] - peer.cluster_centers_).max(axis=2).min(axis=1).max()))
        recovered.append(adjusted_rand_score(planted, labels))
        pooled.append(adjusted_rand_score(planted, peer.labels_))
    both = sum(a >= 0.9 for a, b in zip(recovered, pooled, strict=True) if b >= 0.9)
    what = f"planted strata (separation {separation:g}, {PLANTED_SEEDS} seeds)"
    yield Figure(f"{what}: their number is taken", "of seeds", (sum(right) / len(right),))
    yield Figure(f"{what}: strata are found", "of seeds", (len(alike) / len(right),))
    same = sum(one == 1 for one in alike) / len(alike)
    yield Figure(f"{what}: the very strata of scikit-learn's best of 50 starts", "of those found", (same,), goal_min=1)
    yield Figure(f"{what}: centres beside scikit-learn's, difference", "", tuple(apart), GOALS["centres_max"])
    yield Figure(f"{what}: adjusted Rand index to what was planted", "", tuple(recovered))
    share = both / max(sum(b >= 0.9 for b in pooled), 1)
    yield Figure(f"{what}: that index is 0.9 where pooling gets it", "of seeds", (share,), goal_min=1)


def _clusters() -> Iterator[Figure]:
    """Yield how tight clusters of real cells are, beside scikit-learn's best of ten starts in the same space."""
    import anndata as ad
    import numpy as np
    from sklearn.cluster import KMeans

    from swarmcell.cells.batches import filled
    from swarmcell.model.clusters import BITS, Clusters
    from swarmcell.model.learning import Learner
    from swarmcell.model.state import from_bytes
    from swarmcell.model.strata.clustered import study_of_cells
    from swarmcell.model.study import ClusterRule, Study
    from swarmcell.workflows.sample_table import cells_of

    for name in ("wnv12", "bcrxl_cytof", "kang3"):
        with tempfile.TemporaryDirectory() as scratch:
            path = _prepared(name, Path(scratch))
            found, adata = [], ad.read_h5ad(path, backed="r")
            modality = str(adata.uns["swarmcell"]["modality"])
            for seed in range(CLUSTER_SEEDS):
                rule = ClusterRule(cells_per_sample=500)
                study = Study(name="c", modality=modality, stages=("features", "clusters"), seed=seed, clusters=rule)
                cells, _ = cells_of([path], study, {})
                learner, stop = Learner(study_of_cells(study), cells), threading.Event()
                raw = learner.start()
                while not from_bytes(raw).finished:
                    raw = learner.merge(raw, [learner.contribute(raw, stop)]).state
                clusters = Clusters.of(from_bytes(raw).arrays)
                X = clusters.space.coordinates(filled(cells.X[np.arange(cells.n_cells)])) / 2.0**BITS
                apart = ((X[:, None] - clusters.centres / 2.0**BITS) ** 2).sum(axis=2).min(axis=1).sum()
                peer = KMeans(rule.n, n_init=10, random_state=seed).fit(X)
                found.append(float(apart / peer.inertia_))
        what = f"{name} ({cells.n_cells:,} drawn cells, {rule.n} clusters, {CLUSTER_SEEDS} seeds)"
        yield Figure(f"{what}: squares within, beside scikit-learn's best of 10", "x", tuple(found), 1.01)


def _structureless() -> Iterator[Figure]:
    found = [_solved(_cohort(seed, n=40, strata=1, separation=0, batch=0)[0], seed)[0].k for seed in range(NULL_SEEDS)]
    share = sum(k > 0 for k in found) / len(found)
    what = f"no structure (40 donors, {NULL_SEEDS} seeds): strata are found in"
    yield Figure(what, "of seeds", (share,), GOALS["false_share_max"])


def _real(name: str) -> Iterator[Figure]:
    """Yield what is found in a real set that was cut into sites; conditions are no part of it, only compared."""
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    from swarmcell.workflows.stratify import Options, stratify_alone

    with tempfile.TemporaryDirectory() as scratch:
        path = _prepared(name, Path(scratch))
        options = Options(annotate=False)
        made = stratify_alone([path], Path(scratch) / "strata", options, observer=lambda _event, _facts: None)
        samples = pd.read_csv(Path(scratch) / "strata" / "samples.csv")
    result = made.result
    what = f"{name} ({result['n_samples']} samples of {result['n_donors']} donors, {len(result['sites'])} sites)"
    yield Figure(f"{what}: strata", "", (result["k"],))
    yield Figure(f"{what}: p of any structure", "", (result["overall_p"],))
    low, high = _interval(round(result["overall_p"] * 100) - 1, 99)
    yield Figure(f"{what}: 95 % interval of that p, from", "", (low,))
    yield Figure(f"{what}: 95 % interval of that p, to", "", (high,))
    yield Figure(f"{what}: variance between sites", "", (result["site_share"],))
    yield Figure(f"{what}: variance between sites by chance", "", (result["site_share_by_chance"],))
    disguised = sum(bool(one["site_in_disguise"]) for one in result["strata"])
    yield Figure(f"{what}: strata that are sites in disguise", "", (disguised,))
    if result["k"]:
        agreement = adjusted_rand_score(samples["condition"], samples["stratum"])
        yield Figure(f"{what}: adjusted Rand index to the condition", "", (agreement,))
        yield Figure(f"{what}: p of the condition, within sites", "", (result["associations"][0]["p_value"],))


def _interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which `hits` of `n` twins are the estimate (Clopper, Pearson 1934)."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0


def _prepared(name: str, folder: Path) -> Path:
    import anndata as ad

    from swarmcell.config.preprocess import load
    from swarmcell.workflows.preprocess import preprocess

    out, columns, more = folder / f"{name}.h5ad", {}, {"modality": "cytometry"}
    source = DATA / "cytometry" / name
    if name == "wnv12":
        source = DATA / "cytometry" / "wnv12_mouse_bm_flow.h5ad"
        sites = {donor: site for site, donors in MICE.items() for donor in donors}
    elif name == "aml_flow":
        sites = {f"donor_{number}": site for site, numbers in PATIENTS.items() for number in numbers}
    elif name == "bcrxl_cytof":
        columns = {"sample": "sample_id"}
        sites = {donor: site for site, donors in STIMULATED.items() for donor in donors}
    else:
        source = folder / "kang3-samples.h5ad"
        kang = ad.read_h5ad(DATA / "rna" / "kang3_100genes.h5ad")
        kang.obs["sample"] = kang.obs["donor"].astype(str) + "-" + kang.obs["condition"].astype(str)
        kang.write_h5ad(source)
        sites = {donor: f"site-{donor}" for donor in kang.obs["donor"].astype(str).unique()}
        names = ("min_genes", "min_counts", "mads_counts", "mads_genes", "mads_top20", "mads_mito")
        more = {"modality": "rna", "qc": dict.fromkeys(names, 0) | {"max_mito_share": 1.0}}
    quiet = lambda _event, _facts: None  # noqa: E731
    preprocess(source, load(None, {**more, "columns": columns}), out, observer=quiet)
    adata = ad.read_h5ad(out)
    adata.obs["site"] = adata.obs["donor"].astype(str).map(sites).astype("category")
    adata.write_h5ad(out)
    return out


def _many_donors(folder: Path) -> list[Path]:
    """Write ten prepared files of a hundred donors each; two kinds of patients differ in five markers."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    from swarmcell.cells import schema
    from swarmcell.cells.panel import Feature, Panel

    rng = np.random.default_rng(0)
    names = [f"CD{i}" for i in range(1, N_MARKERS + 1)]
    universe = Panel("bench", "cytometry", "", tuple(Feature(name, name) for name in names), "arcsinh", 5.0)
    per_site = N_DONORS // N_SITES
    for site in range(N_SITES):
        donor = np.repeat(np.arange(per_site), N_CELLS)
        values = rng.standard_normal((len(donor), N_MARKERS), dtype=np.float32)
        values += (rng.standard_normal((per_site, N_MARKERS)) * 0.1).astype(np.float32)[donor]
        values[:, :5] += (donor % 2).astype(np.float32)[:, None]
        labels = pd.Categorical.from_codes(donor, [f"d{i}" for i in range(per_site)])
        obs = pd.DataFrame({"donor": labels, "sample": labels}, index=pd.RangeIndex(len(donor)).astype(str))
        for column, value in (("site", f"site-{site}"), ("split", "train")):
            obs[column] = pd.Categorical([value]).repeat(len(donor))
        var = pd.DataFrame({"symbol": names, "present": True}, index=names)
        adata = ad.AnnData(values, obs, var)
        adata.uns[schema.UNS] = schema.contents(
            modality="cytometry", source_kind="events", universe=universe, qc={}, provenance={}
        )
        schema.write_prepared(schema.plain(adata), folder / f"site-{site}.h5ad")
    return sorted(folder.glob("site-*.h5ad"))


def _measured(files: list[Path], out: Path) -> dict[str, float]:
    """Run the command in a process of its own: seconds in all, and its peak memory."""
    code = (
        "import sys, json, pathlib; from swarmcell.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "text = pathlib.Path('/proc/self/status').read_text()\n"
        "print(json.dumps({'peak_mb': int(text.split('VmHWM:')[1].split()[0]) * 1024 / 1e6}))"
    )
    began = time.perf_counter()
    arguments = ["stratify", *map(str, files), "--out", str(out), "--no-obs", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    seconds = time.perf_counter() - began
    found = json.loads((out / "strata.json").read_text())
    assert found["n_donors"] == N_DONORS
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}
