"""`evaluate --join` over real NATS servers: a newcomer, a killed command, a site that never comes, a dead server.

The servers and the killed command are processes of their own; the other sites are threads.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import quiet_training
from nats_cluster import NatsCluster, missing_binary
from waiting import LIMIT_S, wait_until

from swarmcell.cells import schema
from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmConfig, SwarmRules
from swarmcell.model.study import FitRule, Floors, PrivacyRule, Study
from swarmcell.node import identity
from swarmcell.node import ledger as ledgers
from swarmcell.swarm.entries import decode_entry
from swarmcell.swarm.payloads import Evaluation
from swarmcell.workflows.evaluate_join import across_the_swarm
from swarmcell.workflows.evaluation.values import plain
from swarmcell.workflows.join import take_seat
from swarmcell.workflows.swarm import members

FOUNDERS = ("site-a", "site-b", "site-c")
NEWCOMER = "site-d"
SITES = (*FOUNDERS, NEWCOMER)
PATIENCE_S = 100.0  # the first round waits so long for site-c: time to admit the newcomer


@pytest.fixture(scope="module")
def swarm(make_cells, tmp_path_factory):
    """A finished swarm over NATS, in which one site was admitted late; nobody has published yet."""
    if why := missing_binary():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("nats-evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        cards = {site: identity.create(site).card for site in SITES}
        secrets = [identity.load(site).engine_secret for site in SITES]
        cluster = NatsCluster(folder / "nats", founders=tuple(secrets[:3]), members=tuple(secrets[3:]))
        write_files(folder, cluster, make_cells, cards)
        cluster.start()
        try:
            train(folder, cards)
            yield folder, cluster
        finally:
            cluster.stop()


def write_files(folder, cluster, make_cells, cards):
    engine = cluster.engine_toml()
    for site in SITES:
        cells = make_cells(site, n_donors=6, held_out=3, n_cells=30)
        schema.write_prepared(cells, folder / f"{site}.h5ad")
        (folder / f"{site}.site.toml").write_text(f'name = "{site}"\n{engine}')
        (folder / f"{site}.card.toml").write_bytes(cards[site].to_toml())
    study = Study(
        name="trial",
        modality="rna",
        cell_types=("B", "NK", "T"),
        conditions=("ill", "healthy"),
        universe_sha256=str(cells.uns["swarmcell"]["universe_sha256"]),
        cell=FitRule(rounds_max=2),
        patient=FitRule(rounds_max=2, l2=1e-2),
        floors=Floors(donors=1, cells=10),
        privacy=PrivacyRule(cell_digests=True),
    )
    config = SwarmConfig(study=study, swarm=SwarmRules(patience_s=PATIENCE_S))
    (folder / "swarm.toml").write_bytes(swarm_file.dump(swarm_file.create(config, [cards[s] for s in FOUNDERS])))


def train(folder, cards):
    """Start two founders, admit the newcomer while they wait for the third, and train to the end."""
    with ThreadPoolExecutor(len(SITES)) as threads:
        running = [threads.submit(trained, folder, site) for site in FOUNDERS[:2]]
        wait_until(
            lambda: has_block(folder / "runs" / "site-b" / "ledger.sqlite"),
            "the first block",
            check=lambda: [one.result() for one in running if one.done()],
        )
        about = {"identity": "site-a", "site_file": folder / "site-a.site.toml"}
        made = members.invite(folder / "swarm.toml", folder / f"{NEWCOMER}.card.toml", **about)
        members.approve(folder / "swarm.toml", NEWCOMER, identity="site-b", site_file=folder / "site-b.site.toml")
        members.accept(made.invitation, out=folder / "late.toml")
        running += [threads.submit(trained, folder, site) for site in (NEWCOMER, "site-c")]
        for one in running:
            one.result(timeout=LIMIT_S)


def has_block(path):
    if not path.is_file():
        return False
    with ledgers.opened_to_look(path) as ledger:
        return bool(ledger.bodies())


def seat(folder, site):
    file = folder / ("late.toml" if site == NEWCOMER else "swarm.toml")
    return take_seat(file, identity=site, site_file=folder / f"{site}.site.toml")


def trained(folder, site):
    return quiet_training.trained(folder, site, seat(folder, site))


def published(folder, site):
    with ledgers.opened_to_look(folder / "runs" / site / "ledger.sqlite") as ledger:
        return [entry for entry in map(decode_entry, ledger.own()) if isinstance(entry.payload, Evaluation)]


def joined(folder, site, **options):
    told = []
    model = folder / "runs" / site / "merged.safetensors"
    found = across_the_swarm(model, [folder / f"{site}.h5ad"], seat=seat(folder, site), tell=told.append, **options)
    return found, told


def test_counts_over_nats_survive_a_kill_a_dead_server_and_a_site_that_never_comes(swarm):
    folder, cluster = swarm
    kill_while_it_waits(folder)
    again, told = joined(folder, "site-a")
    assert "nothing new is published" in told
    assert again.waiting == ("site-b", "site-c", "site-d")

    cluster.kill("site-b")
    joined(folder, "site-b")
    late, told = joined(folder, NEWCOMER, wait_s=1.0)
    assert told[-1].startswith("published")
    assert late.waiting == ("site-c",)
    assert [part.site for part in late.sites] == ["site-a", "site-b", "site-d"]
    assert late.n_donors == 9
    assert late.cell["accuracy"].has_interval

    seen = [json.dumps(plain(joined(folder, site, publish=False)[0])) for site in SITES]
    assert len({*seen, json.dumps(plain(late))}) == 1, "the same figures at every peer, at one that never published too"
    assert [len(published(folder, site)) for site in SITES] == [1, 1, 0, 1]


def kill_while_it_waits(folder):
    """Kill the command of site-a without notice as soon as its counts are signed."""
    arguments = ["runs/site-a/merged.safetensors", "site-a.h5ad", "--join", "swarm.toml", "--site", "site-a.site.toml"]
    command = [sys.executable, "-m", "swarmcell", "evaluate", *arguments, "--identity", "site-a", "--wait", "600"]
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [*command, "--bootstrap", "20"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=said,
        )
    try:
        wait_until(lambda: published(folder, "site-a") or process.poll() is not None, "the counts of site-a")
        assert process.poll() is None, (folder / "said.txt").read_text()
    finally:
        process.kill()
        process.wait()


def test_a_newcomer_shows_its_digests_and_sees_those_of_the_founders(swarm):
    folder, _ = swarm
    for site in SITES:
        elsewhere = json.loads((folder / "runs" / site / "elsewhere.json").read_text())
        assert sorted(elsewhere["sites"]) == [other for other in SITES if other != site]
        assert elsewhere["silent"] == []
