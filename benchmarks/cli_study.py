"""One study through the real command line: prepare, found a swarm, train each peer in a process of its own, evaluate.

Rules: nothing of swarmcell is imported here; what a case does, a user can type. Everything lies in one folder, the
identities included. The first command that fails ends the others, and its output is shown.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 300.0  # of one step; chosen: ten times the slowest
POLL_S = 0.05
AT_ONCE = 2  # commands other than peers run two at a time: two cores


class CommandFailedError(RuntimeError):
    """A command ended with an error; the message holds its output."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study is: whose files, prepared how, learnt by which rules.

    Attributes
    ----------
    sources
        Site -> file or folder as it was measured.
    universe_of, panel_options
        What `panel create` reads, and options of its own.
    preprocess, study
        TOML texts: the configuration of `preprocess`, and of `swarm create`; both may name `universe.json`.
    peers
        Sites that train together.
    evaluated
        Sites whose prepared files hold the held-out donors; besides, no file of a site that only trains is read.
    """

    sources: Mapping[str, Path]
    universe_of: Path
    modality: str
    preprocess: str
    study: str
    peers: tuple[str, ...]
    evaluated: tuple[str, ...]
    panel_options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out.

    Attributes
    ----------
    folder
        Holds `SITE.h5ad`, `runs/`, `swarm.toml` and `evaluation/report.html`.
    digests
        Peer -> digest of its merged model; empty where one site trains alone.
    evaluation
        What `evaluate --json` printed. Models: `swarm`, `local` (of the first peer), `pooled`, and `SITE alone` of the
        other peers.
    seconds
        Of all commands together.
    evaluated_by
        Arguments of the `evaluate` that wrote `evaluation/`.
    """

    folder: Path
    digests: Mapping[str, str]
    evaluation: Mapping[str, Any]
    seconds: float
    evaluated_by: tuple[str, ...] = ()


def in_a_swarm(plan: Plan, folder: Path) -> Outcome:
    """Run a study with one process per peer; each site's own model and a pooled one beside the merged one."""
    begun_s = time.monotonic()
    first = plan.peers[0]
    files = [f"{site}.h5ad" for site in plan.peers]
    prepare(plan, folder)
    together(folder, [["identity", "create", site] for site in plan.peers], at_once=AT_ONCE)
    founders = [part for site in plan.peers for part in ("--founder", site)]
    swarmcell(folder, ["swarm", "create", "study.toml", *founders, "--out", "swarm.toml"])
    joins = [["train", file, "--join", "swarm.toml", "--threads", "1"] for file in files]
    together(folder, joins, at_once=len(joins))
    pooled = ["train", *files, "--config", "study.toml", "--name", "pooled", "--threads", "1"]
    verify = ["swarm", "verify", "swarm.toml", "--cells", files[0], "--identity", first]
    together(folder, [pooled, verify], at_once=AT_ONCE)
    against = {"pooled": "runs/pooled/local.safetensors"}
    against |= {f"{site} alone": f"runs/{site}/local.safetensors" for site in plan.peers[1:]}
    arguments = evaluation(f"runs/{first}/merged.safetensors", plan.evaluated, against)
    found = json.loads(swarmcell(folder, arguments))
    digests = {site: _digest(folder / "runs" / site / "merged.json") for site in plan.peers}
    seconds = time.monotonic() - begun_s
    return Outcome(folder=folder, digests=digests, evaluation=found, seconds=seconds, evaluated_by=arguments)


def alone(plan: Plan, folder: Path) -> Outcome:
    """Train at one site and evaluate at others: where there are too few sites for a swarm."""
    begun_s = time.monotonic()
    (site,) = plan.peers
    prepare(plan, folder)
    swarmcell(folder, ["train", f"{site}.h5ad", "--config", "study.toml", "--threads", "1"])
    arguments = evaluation(f"runs/{site}/local.safetensors", plan.evaluated, {})
    found = json.loads(swarmcell(folder, arguments))
    seconds = time.monotonic() - begun_s
    return Outcome(folder=folder, digests={}, evaluation=found, seconds=seconds, evaluated_by=arguments)


def prepare(plan: Plan, folder: Path) -> None:
    """Write the configurations, make the universe and prepare every site's file."""
    (folder / "preprocess.toml").write_text(plan.preprocess, encoding="utf-8")
    (folder / "study.toml").write_text(plan.study, encoding="utf-8")
    options = ["--modality", plan.modality, *plan.panel_options]
    swarmcell(folder, ["panel", "create", plan.universe_of, *options, "--out", "universe.json"])
    together(
        folder,
        [
            ["preprocess", source, "--config", "preprocess.toml", "--site", site, "--out", f"{site}.h5ad"]
            for site, source in plan.sources.items()
        ],
        at_once=AT_ONCE,
    )


def evaluation(model: str, sites: Sequence[str], against: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments that evaluate a model beside others and print the JSON document."""
    files = [f"{site}.h5ad" for site in sites]
    beside = [part for name, path in against.items() for part in ("--against", f"{name}={path}")]
    return ("evaluate", model, *files, *beside, "--out", "evaluation", "--json")


def swarmcell(folder: Path, arguments: Sequence[str | Path]) -> str:
    """Run one command and return what it printed on standard output."""
    return together(folder, [arguments], at_once=1)[0]


def together(folder: Path, commands: Sequence[Sequence[str | Path]], *, at_once: int) -> list[str]:
    """Run commands side by side, at most `at_once`, and return what each printed on standard output."""
    printed = []
    for begin in range(0, len(commands), at_once):
        with tempfile.TemporaryDirectory() as outputs:
            some = commands[begin : begin + at_once]
            running = [_Running(folder, one, Path(outputs) / str(i)) for i, one in enumerate(some)]
            try:
                _wait(running)
                printed += [one.printed() for one in running]
            finally:
                for one in running:
                    one.end()
    return printed


class _Running:
    """A command that runs; its output goes to files, so that no pipe can fill up."""

    def __init__(self, folder: Path, arguments: Sequence[str | Path], outputs: Path) -> None:
        self.line = " ".join(["swarmcell", *map(str, arguments)])
        self._out, self._said = outputs.with_suffix(".out"), outputs.with_suffix(".err")
        environment = os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"}
        with self._out.open("wb") as out, self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swarmcell", *map(str, arguments)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
            )

    def ended(self) -> bool:
        code = self.process.poll()
        if code:
            msg = f"exit code {code}: {self.line}\n{self._said.read_text(encoding='utf-8')[-3000:]}"
            raise CommandFailedError(msg)
        return code == 0

    def printed(self) -> str:
        return self._out.read_text(encoding="utf-8")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _wait(running: Sequence[_Running]) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while late := [one.line for one in running if not one.ended()]:
        if time.monotonic() > limit_s:
            msg = f"not ended after {LIMIT_S:.0f} s: {', '.join(late)}"
            raise CommandFailedError(msg)
        time.sleep(POLL_S)


def _digest(card: Path) -> str:
    return str(json.loads(card.read_text(encoding="utf-8"))["digest"])
