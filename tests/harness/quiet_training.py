"""A site of a swarm trains in a thread of the test, and says nothing."""

from swarmcell.workflows.train import Options, train_in_swarm


def trained(folder, site, seat):
    """Train on `SITE.h5ad` in a folder; the run is `runs/SITE` there."""
    return train_in_swarm(
        [folder / f"{site}.h5ad"],
        seat=seat,
        runs=folder / "runs",
        name=site,
        options=Options(threads=1, device="cpu"),
        observer=lambda *_: None,
        fit_local=False,
    )
