"""docs/tutorial.md, followed to the letter by real hospitals over NATS, while a server dies and a cable is pulled.

One network namespace per hospital; hospital D reaches nothing but its own proxy, and nobody reaches D.
"""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import anndata as ad
import hospital_network
import pytest
from nats_cluster import missing_binary
from tutorial_page import Sent, Typed, chapters
from waiting import LIMIT_S, wait_until

from swarmcell.node.presence import UP_WITHIN_S

ROOT = Path(__file__).parents[2]
SITES = ("site-a", "site-b", "site-c")
NAMES = ("swarm.hospital-a.example", "swarm.hospital-b.example", "swarm.hospital-c.example", "proxy.hospital-d.example")


class Hospital:
    """A machine of its own: a folder, a home, a namespace, and terminals."""

    def __init__(self, name, folder, network):
        self.name, self.folder, self.network = name, folder / name, network
        self.folder.mkdir(parents=True)
        for shared in ("configs", "sample_data"):
            (self.folder / shared).symlink_to(ROOT / shared)
        self.exports = ""
        self.terminals = []

    def type(self, commands):
        """Start what is typed in a terminal of this hospital."""
        exports = [line for line in commands.splitlines() if line.startswith("export ")]
        self.exports += "".join(f"{line}\n" for line in exports)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"HOME": str(self.folder), "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment["XDG_CONFIG_HOME"] = str(self.folder / ".config")
        output = (self.folder / f"terminal-{len(self.terminals)}.txt").open("w+")
        script = f"set -e\n{self.exports}{commands}"
        process = self.network.start(
            self.name, ["bash", "-c", script], environment, cwd=self.folder, stdout=output, stderr=output
        )
        self.terminals.append((process, output))
        return process, output

    def finish(self, terminal, code=0):
        process, output = terminal
        process.wait(timeout=3 * LIMIT_S)  # a hundred rounds
        output.seek(0)
        said = output.read()
        assert process.returncode == code, f"{self.name}: {said[-3000:]}"
        assert "Traceback" not in said
        return said

    def run(self, commands):
        return self.finish(self.type(commands))

    @property
    def metrics(self):
        path = self.folder / "runs" / self.name / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def status(self):
        """Return what `swarm status` shows, or nothing where the engine does not answer."""
        terminal = self.type("swarmcell swarm status swarm.toml --json --quiet || true")
        said = self.finish(terminal)
        return json.loads(said) if said.startswith("{") else {}

    def events(self):
        path = self.folder / "runs" / self.name / "log.txt"
        return path.read_text() if path.is_file() else ""

    def digest(self):
        return json.loads((self.folder / "runs" / self.name / "merged.json").read_text())["digest"]

    def server_pid(self):
        return int((self.folder / "engine" / "server.pid").read_text())

    def close(self):
        pid_file = self.folder / "engine" / "server.pid"
        if pid_file.is_file() and self.terminals:
            stop(self.server_pid(), signal.SIGKILL)
        for process, output in self.terminals:
            if process.poll() is None:
                process.kill()
            process.wait()
            output.close()


def stop(pid, how):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def wait_for(fits, what, hospitals):
    """Wait, and fail at once where anything that was typed has failed."""

    def none_has_failed():
        for hospital in hospitals:
            for terminal in hospital.terminals:
                if terminal[0].poll() not in {None, 0, -signal.SIGKILL, 128 + signal.SIGKILL}:
                    hospital.finish(terminal)

    return wait_until(fits, lambda: f"{what} ({hospitals[0].events()[-1500:]})", check=none_has_failed)


def led_by(hospital, *, replicas, up=(), other_than=""):
    """Return who leads the log, and the status that says so, once so many replicas are in step and these are up."""
    seen = hospital.status()
    if not seen or not {*up} <= {member["name"] for member in seen["members"] if member["up"]}:
        return None
    found = re.search(r"led by ([^,]+), (\d) of 3 replicas in step", seen["engine"]["about"])
    return (found[1], seen) if found and int(found[2]) >= replicas and found[1] != other_than else None


class Reader:
    """Follows the page; `staying` holds the terminals that stay open, by site."""

    def __init__(self, hospitals):
        self.hospitals = hospitals
        self.chapters = chapters()
        self.staying = {}

    def at(self, who):
        return [self.hospitals[name] for name in (SITES if who == "each" else (who,))]

    def follow(self, *numbers):
        for step in (step for number in numbers for step in self.chapters[number]):
            self.take(step)

    def take(self, step):
        match step:
            case Typed(at="install"):
                pass  # done already; `make bundle` and a fresh environment are tried apart from this
            case Typed(at=at, stays=True, commands=commands):
                for hospital in self.at(at):
                    self.staying.setdefault(hospital.name, []).append(hospital.type(commands))
            case Typed(at=at, commands=commands):
                started = [(hospital, hospital.type(commands)) for hospital in self.at(at)]
                for hospital, terminal in started:
                    hospital.finish(terminal)
            case Sent():
                self.send(step)

    def send(self, step):
        for sender in self.at(step.sender):
            receivers = [hospital for name in step.receivers for hospital in self.at(name)]
            for name in (file.replace("$SITE", sender.name) for file in step.files):
                for receiver in receivers:
                    if receiver is not sender:
                        shutil.copy(sender.folder / name, receiver.folder / Path(name).name)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The whole page, with what happened on the way; a dictionary of facts."""
    if why := hospital_network.missing() or missing_binary():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("tutorial")
    network = hospital_network.Network(SITES, "site-d", NAMES)
    hospitals = {}
    try:
        network.up()
        hospitals.update({name: Hospital(name, folder, network) for name in (*SITES, "site-d")})
        yield tell(Reader(hospitals), network, hospitals)
    finally:
        for hospital in hospitals.values():
            hospital.close()
        network.down()


def tell(reader, network, hospitals):
    everybody = list(hospitals.values())
    a, d = everybody[0], everybody[-1]
    facts = {"hospitals": hospitals}
    reader.follow(1, 2, 3, 4, 5, 6)
    wait_for(lambda: len(a.metrics) >= 2, "round 2", everybody)

    leader, facts["status"] = wait_for(lambda: led_by(a, replicas=2, up=SITES), "a swarm in step", everybody)
    before = len(a.metrics)
    stop(hospitals[leader].server_pid(), signal.SIGKILL)
    wait_for(lambda: len(a.metrics) >= before + 2, "a block after the leader's death", everybody)  # one is under way
    facts["leaders"] = (leader, wait_for(lambda: led_by(a, replicas=1), "another leader", everybody)[0])
    hospitals[leader].type("swarmcell engine run")

    network.pull_cable("site-c")
    wait_for(lambda: led_by(a, replicas=2, other_than="site-c"), "a log of A and B", everybody)
    reader.follow(7)
    wait_for(lambda: "contributed" in d.events(), "D's first contribution", everybody)
    facts["reached"] = {site: network.reaches(site, "10.78.0.2", 22) for site in SITES}
    facts["d_dials"] = {port: network.reaches("site-d", "10.77.0.1", port) for port in (443, 4222)}
    network.plug_cable("site-c")

    for hospital in everybody:
        finish_training(hospital)
    reader.follow(8)
    return facts


def finish_training(hospital):
    """Wait for this hospital's peer, which ends by itself."""
    for terminal in hospital.terminals:
        if "swarmcell train" in terminal[0].args[-1]:
            hospital.finish(terminal)


def test_all_hospitals_end_with_the_same_model(story):
    digests = {name: hospital.digest() for name, hospital in story["hospitals"].items()}
    assert len(set(digests.values())) == 1, digests


def rounds(story):
    return [row for row in story["hospitals"]["site-a"].metrics if row["model"] == "merged"]


def test_the_late_hospital_takes_part_in_the_round_that_it_finds_open(story):
    contributed = next(line for line in story["hospitals"]["site-d"].events().splitlines() if "contributed" in line)
    first = int(contributed.split("'round': ")[1].split("}")[0])
    assert "site-d" in next(row["sites"] for row in rounds(story) if row["round"] == first)
    assert sum("site-d" in row["sites"] for row in rounds(story)) >= 3
    card = json.loads((story["hospitals"]["site-a"].folder / "runs/site-a/merged.json").read_text())
    assert "site-d" in card["sites"]


def test_the_hospital_whose_cable_was_pulled_takes_part_again(story):
    assert "site-c" in rounds(story)[-1]["sites"]


def test_the_swarm_goes_on_after_the_leader_of_the_log_is_killed(story):
    before, after = story["leaders"]
    assert {before, after} <= {*SITES}
    assert before != after


def test_nobody_can_dial_the_hospital_that_only_dials_out(story):
    assert story["reached"] == dict.fromkeys(SITES, False)
    assert story["d_dials"] == {443: False, 4222: False}, "not even D itself, but through its proxy"


def test_status_shows_every_member_the_engine_and_who_is_waited_for(story):
    seen = story["status"]
    assert [member["name"] for member in seen["members"]] == list(SITES)
    assert all(member["up"] and member["last_seen_s"] <= UP_WITHIN_S for member in seen["members"])
    assert seen["waits_for"]
    assert set(seen["waited_for"]) <= set(SITES)


def test_nothing_that_is_logged_or_leaves_the_site_names_a_donor(story):
    """What `preprocess` shows on the screen, and `run.json`, which stays, are the site's own."""
    for name, hospital in story["hospitals"].items():
        obs = ad.read_h5ad(hospital.folder / f"{name}.h5ad").obs
        run = hospital.folder / "runs" / name
        told = [run / "log.txt", run / "metrics.jsonl", run / "merged.json"]
        told += [Path(output.name) for process, output in hospital.terminals if stays(process)]
        assert len(told) >= 4
        assert naming(told, {*obs["donor"], *obs["sample"]}) == []
        stored = [
            run / "merged.safetensors",
            *run.glob("ledger.sqlite*"),
            *hospital.folder.glob("engine/store/**/*.blk"),
        ]
        assert len(stored) >= 2
        assert naming(stored, {*obs["sample"]}) == [], "a donor's three letters stand in ciphertext by chance"


def naming(files, ids):
    """Return the names of the files in which one of these stands."""
    named = re.compile(rb"\b(" + b"|".join(re.escape(str(one)).encode() for one in ids) + rb")\b")
    return [path.name for path in files if named.search(path.read_bytes())]


def stays(process):
    return any(words in process.args[-1] for words in ("swarmcell train", "engine run"))
