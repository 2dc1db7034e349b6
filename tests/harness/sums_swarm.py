"""Hospitals that sum integers in a swarm: real processes, each with its own folder and keys, over either engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nats_cluster import NatsCluster
from typer.testing import CliRunner
from waiting import LIMIT_S, wait_until

from swarmcell.cli.app import app
from swarmcell.cli.common import exit_code
from swarmcell.config import swarm_file
from swarmcell.errors import SwarmcellError
from swarmcell.model.study import Study
from swarmcell.node import identity

PEER = Path(__file__).parents[1] / "system" / "sums_peer.py"
SITES = ("site-a", "site-b", "site-c")


class Hospital:
    """A site's folder; its peer writes one JSON line per event."""

    def __init__(self, folder, name, site_file=""):
        self.name, self.folder = name, folder / name
        self.folder.mkdir(parents=True)
        self.keys = self.folder / "keys"
        self.swarm = self.folder / "swarm.toml"
        self.use(site_file)
        self.identity = self.make_identity()
        self.card = self.identity.card
        self.card_file = self.folder / f"{name}.card.toml"
        self.card_file.write_bytes(self.card.to_toml())

    def make_identity(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(self.keys))
            return identity.create(self.name)

    def use(self, engine):
        """Write the site file with this [engine] part."""
        (self.folder / "site.toml").write_text(f'name = "{self.name}"\n{engine}')

    def environment(self, **more):
        return {**os.environ, "XDG_CONFIG_HOME": str(self.keys), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}

    def cli(self, *arguments, code=0):
        """Run a swarmcell command here and now; return standard output, and what it said."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in (("XDG_CONFIG_HOME", str(self.keys)), ("COLUMNS", "200")):
                patch.setenv(name, value)
            done = CliRunner().invoke(app, [*map(str, arguments)])
        error = done.exception
        assert isinstance(error, SwarmcellError | SystemExit | None), error
        assert (exit_code(error) if isinstance(error, SwarmcellError) else done.exit_code) == code, (done.output, error)
        return done.stdout, f"{done.output}{error if isinstance(error, SwarmcellError) else ''}"


class Peer:
    """A running peer; its events are read from a file, so that nothing blocks."""

    def __init__(self, hospital, *, rounds, size=0, sleep_s=0.0, kill_at=""):
        self.hospital = hospital
        self.said = hospital.folder / "events.jsonl"
        numbers = [str(number) for number in (rounds, size, sleep_s)]
        command = [
            sys.executable,
            str(PEER),
            str(hospital.swarm),
            hospital.name,
            str(hospital.folder / "run"),
            *numbers,
        ]
        with self.said.open("ab") as out, (hospital.folder / "errors.txt").open("ab") as error:
            self.process = subprocess.Popen(
                command, env=hospital.environment(KILL_AT=kill_at), stdout=out, stderr=error, cwd=hospital.folder
            )

    def errors(self):
        return (self.hospital.folder / "errors.txt").read_text()

    def events(self):
        lines = self.said.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def blocks(self):
        return [event for event in self.events() if event["event"] == "block"]

    def height(self):
        blocks = self.blocks()
        return blocks[-1]["height"] if blocks else -1

    def wait_for(self, fits, what):
        wait_until(
            lambda: fits(self), lambda: f"{self.hospital.name}: {what} ({self.events()[-3:]})", check=self.assert_well
        )
        return self

    def assert_well(self):
        assert self.process.poll() in {None, 0}, f"{self.hospital.name}: {self.errors()[-2000:]}"

    def wait_height(self, height):
        return self.wait_for(lambda peer: peer.height() >= height, f"block {height}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ended(self, code=0):
        self.process.wait(timeout=LIMIT_S)
        assert self.process.returncode == code, self.errors()[-2000:]
        return self.events()[-1] if code == 0 else self.errors()


class Swarm:
    """Founding hospitals under a folder; `start` runs their peers, `close` ends all that were started."""

    def __init__(self, folder, names=SITES, *, engine="", patience_s=0.5):
        self.folder = folder
        self.engine = engine or f'[engine]\npath = "{folder / "swarm.log"}"\n'
        self.hospitals = {name: Hospital(folder, name, self.engine) for name in names}
        self.peers = []
        rules = swarm_file.SwarmRules(patience_s=patience_s)
        config = swarm_file.SwarmConfig(study=Study(name="sums", modality="rna"), swarm=rules)
        self.made = swarm_file.create(config, [self.hospitals[name].card for name in names])
        for hospital in self.hospitals.values():
            hospital.swarm.write_bytes(swarm_file.dump(self.made))

    def over_nats(self, folder):
        """Take a new cluster of three servers for the log; return it, not started."""
        secrets = tuple(hospital.identity.engine_secret for hospital in self.hospitals.values())
        cluster = NatsCluster(folder, founders=secrets)
        self.engine = cluster.engine_toml()
        for hospital in self.hospitals.values():
            hospital.use(self.engine)
        return cluster

    def newcomer(self, name):
        self.hospitals[name] = Hospital(self.folder, name, self.engine)
        return self.hospitals[name]

    def start(self, *names, **options):
        started = [Peer(self.hospitals[name], **options) for name in names]
        self.peers += started
        return started[0] if len(started) == 1 else started

    def close(self):
        for peer in self.peers:
            peer.kill()
