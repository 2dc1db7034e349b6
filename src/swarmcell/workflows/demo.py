"""The whole path on one machine: three hospitals prepare, train in a swarm of real processes, and are evaluated.

Rules: everything runs through the commands that a user would type, each in its own process; nothing is imported from
the other workflows. All that the demo writes lies in one folder, identities included.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swarmcell.errors import InputError, OutputError, SwarmError

Observer = Callable[[str, dict[str, Any]], None]
Modality = Literal["rna", "cytometry"]
SITES = ("site-a", "site-b", "site-c")
MARKER = "demo.json"  # a folder with this file is a demo's, and may be replaced
POLL_S = 0.2
STEP_S_MAX = 900.0  # chosen: five times the whole demo
LAST_LINES = 15


@dataclass(frozen=True)
class Command:
    """One command line, without `swarmcell`; `who` runs it."""

    who: str
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        """The line that a user would type."""
        return " ".join(["swarmcell", *(f"'{a}'" if " " in a else a for a in self.arguments)])


@dataclass(frozen=True)
class Finished:
    """A command that succeeded. `memory_mb_max` is its largest resident memory."""

    command: Command
    seconds: float
    memory_mb_max: float


@dataclass(frozen=True)
class Demonstration:
    """What the demo did. `digests` is the merged model's digest at every site: all the same."""

    folder: Path
    report: Path
    seconds: float
    digests: Mapping[str, str]
    finished: tuple[Finished, ...]

    @property
    def peer_memory_mb_max(self) -> float:
        """The largest resident memory of a peer of the swarm."""
        return max(f.memory_mb_max for f in self.finished if "--join" in f.command.arguments)

    def summary(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "seconds": round(self.seconds, 1),
            "merged_digests": dict(self.digests),
            "peer_memory_mb_max": round(self.peer_memory_mb_max),
            "commands": [
                {"command": f.command.text, "seconds": round(f.seconds, 1), "memory_mb_max": round(f.memory_mb_max)}
                for f in self.finished
            ],
        }


def demonstrate(source: Path, configs: Path, out: Path, *, modality: Modality, observer: Observer) -> Demonstration:
    """Run the demo in the folder `out`, which must not exist.

    Parameters
    ----------
    source
        The folder of sample data; holds `rna/site-a` and so on.
    configs
        The folder of configurations.
    observer
        Is told `step` (title), `command` (who, text), `round` (site, stage, round, loss) and `done` (who, seconds).

    Raises
    ------
    InputError
        If the sample data or a configuration is missing.
    OutputError
        If `out` cannot be made.
    SwarmError
        If a command fails; the message holds its last lines.
    """
    started = time.monotonic()
    _refuse_missing(source / modality, configs)
    _make_folder(out)
    runner = _Runner(out, observer)
    for title, commands in _steps(_relative(source / modality, out), _relative(configs, out), modality):
        observer("step", {"title": title})
        runner.run_together(commands)
    digests = _digests(out)
    report = out / "runs" / SITES[0] / "evaluation" / "report.html"
    done = Demonstration(out, report, time.monotonic() - started, digests, tuple(runner.finished))
    (out / MARKER).write_text(json.dumps(done.summary(), indent=2) + "\n", encoding="utf-8")
    return done


def _steps(source: str, configs: str, modality: Modality) -> list[tuple[str, list[Command]]]:
    prepare = ("--config", f"{configs}/{modality}.toml")
    founders = tuple(part for site in SITES for part in ("--founder", site))
    files = tuple(f"{site}.h5ad" for site in SITES)
    merged = f"runs/{SITES[0]}/merged.safetensors"
    others = tuple(part for site in SITES[1:] for part in ("--against", f"{site} alone=runs/{site}/local.safetensors"))
    rules = f"{configs}/swarm-{modality}.toml"
    create = ("swarm", "create", rules, *founders, "--secure-aggregation", "--out", "swarm.toml")
    return [
        (
            "Each hospital prepares its own files",
            [Command(s, ("preprocess", f"{source}/{s}", *prepare, "--out", f"{s}.h5ad")) for s in SITES],
        ),
        ("Each hospital makes its keys", [Command(s, ("identity", "create", s)) for s in SITES]),
        ("One of them writes the swarm file, which holds no secret", [Command(SITES[0], create)]),
        (
            "Three peers train together; no cell leaves its hospital, and each one's sums are hidden from the others",
            [Command(s, ("train", f"{s}.h5ad", "--join", "swarm.toml", "--threads", "1")) for s in SITES],
        ),
        (
            "For comparison only: one model of all cells in one place",
            [Command("pooled", ("train", *files, "--name", "pooled", "--config", rules, "--threads", "1"))],
        ),
        (
            "Held-out patients: the swarm beside each site alone and all cells pooled",
            [
                Command(
                    SITES[0],
                    ("evaluate", merged, *files, *others, "--against", "pooled=runs/pooled/local.safetensors"),
                )
            ],
        ),
    ]


class _Runner:
    """Runs commands in the demo's folder, with identities of its own."""

    def __init__(self, out: Path, observer: Observer) -> None:
        self.finished: list[Finished] = []
        self._out = out
        self._observer = observer
        self._environment = os.environ | {
            "XDG_CONFIG_HOME": str((out / "config").resolve()),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "PYTHONUNBUFFERED": "1",
        }

    def run_together(self, commands: Sequence[Command]) -> None:
        """Start all commands, and wait for all; the first that fails ends the others."""
        with ExitStack() as processes:
            running = [_Process(command, self._out, self._environment, len(self.finished)) for command in commands]
            for process in running:
                processes.callback(process.end)
                self._observer("command", {"who": process.command.who, "text": process.command.text})
            rounds = _Rounds(self._out, commands, self._observer)
            while waiting := [process for process in running if not process.poll()]:
                rounds.look()
                for process in waiting:
                    process.refuse_overdue()
                time.sleep(POLL_S)
            rounds.look()
        for process in running:
            self.finished.append(process.result())
            about = {"who": process.command.who, "seconds": self.finished[-1].seconds}
            self._observer("done", about | {"memory_mb": self.finished[-1].memory_mb_max})


class _Process:
    """One running command; its output goes to a file under `log/`."""

    def __init__(self, command: Command, folder: Path, environment: Mapping[str, str], number: int) -> None:
        self.command = command
        name = f"{number:02d}-{command.arguments[0]}-{command.who}.txt"
        self._output = folder / "log" / name
        self._started = time.monotonic()
        self._ended: tuple[int, float, float] | None = None
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "swarmcell", *command.arguments],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def poll(self) -> bool:
        """Say whether it has succeeded; raise if it has failed."""
        if self._ended is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid == 0:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - self._started
            self._ended = (self._process.returncode, seconds, usage.ru_maxrss / 1024)
        if self._ended[0] != 0:
            raise SwarmError(self._failure(f"failed with exit code {self._ended[0]}"))
        return True

    def refuse_overdue(self) -> None:
        """Raise if it takes too long."""
        if time.monotonic() - self._started > STEP_S_MAX:
            raise SwarmError(self._failure(f"has not ended after {STEP_S_MAX:.0f} s"))

    def result(self) -> Finished:
        """Return what it took; only once it has succeeded."""
        assert self._ended is not None  # noqa: S101 (our own order)
        return Finished(self.command, self._ended[1], self._ended[2])

    def end(self) -> None:
        """End it if it still runs."""
        if self._ended is None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _failure(self, what: str) -> str:
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join([f"{self.command.who}: {self.command.text} {what}. Its output ({self._output}):", *lines])


class _Rounds:
    """Follows the metrics of the runs that commands write, and tells of each new round."""

    def __init__(self, folder: Path, commands: Sequence[Command], observer: Observer) -> None:
        joining = [c.who for c in commands if c.arguments[0] == "train"]
        self._read = {folder / "runs" / who / "metrics.jsonl": (who, 0) for who in joining}
        self._observer = observer

    def look(self) -> None:
        """Read what was appended since the last look."""
        for path, (who, position) in self._read.items():
            if not path.is_file():
                continue
            with path.open("rb") as file:
                file.seek(position)
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read[path] = (who, position + len(whole))
            for line in whole.splitlines():
                self._observer("round", {"who": who, **json.loads(line)})


def _refuse_missing(source: Path, configs: Path) -> None:
    for path in (*(source / site for site in SITES), configs):
        if not path.is_dir():
            msg = f"{path}: no such folder; the demo needs the repository's sample_data and configs. Run it there."
            raise InputError(msg)


def _make_folder(out: Path) -> None:
    try:
        (out / "log").mkdir(parents=True)
    except OSError as error:
        msg = f"{out}: cannot be made ({error.strerror}). Choose another folder with --out, or replace it: --force."
        raise OutputError(msg) from error
    (out / MARKER).write_text("{}\n", encoding="utf-8")


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())


def _digests(out: Path) -> dict[str, str]:
    """Return each site's digest of the merged model.

    Raises
    ------
    SwarmError
        If they differ.
    """
    cards = {site: out / "runs" / site / "merged.json" for site in SITES}
    digests = {site: str(json.loads(card.read_text(encoding="utf-8"))["digest"]) for site, card in cards.items()}
    if len(set(digests.values())) != 1:
        msg = f"the sites hold different merged models: {digests}. This is a bug of swarmcell: please report it."
        raise SwarmError(msg)
    return digests
