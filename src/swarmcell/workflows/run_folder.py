"""The folder of one run: `runs/NAME/`, its files, and which name a new run gets.

Rules: the folder is for this user only: the report that `evaluate` writes into it names donors. `run.json` says what
was asked for; `metrics.jsonl` has a line per round; `log.txt` is for people and names no donor; `checkpoint` is the
merged state after the last round, replaced whole, so a run that is cut off goes on from it.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from swarmcell.errors import InputError, OutputError, UsageError
from swarmcell.files import write_whole

RUN_FILE, METRICS, LOG, CHECKPOINT, LEDGER = "run.json", "metrics.jsonl", "log.txt", "checkpoint", "ledger.sqlite"
LOCAL, MERGED = "local.safetensors", "merged.safetensors"
_DIGEST_BYTES = 32
_NAMES_MAX = 1000


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def local(self) -> Path:
        """The model of this site alone."""
        return self.path / LOCAL

    @property
    def merged(self) -> Path:
        """The model of the swarm."""
        return self.path / MERGED

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        OutputError
            If it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            msg = f"{self.path}: cannot be made ({error.strerror}). Choose another place with --runs."
            raise OutputError(msg) from error

    def clear(self) -> None:
        """Remove what an earlier run left: all but a swarm's ledger, which must survive (it remembers signatures)."""
        for item in self.path.glob("*"):
            if item.name.startswith(LEDGER):
                continue
            shutil.rmtree(item) if item.is_dir() else item.unlink()

    def settings(self) -> dict[str, Any]:
        """Return what `run.json` says; empty where there is none.

        Raises
        ------
        InputError
            If it is broken.
        """
        path = self.path / RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read ({error}). Remove the run, or give another --name."
            raise InputError(msg) from error
        return dict(content)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write `run.json`, for this user only: it names donors."""
        self._write(RUN_FILE, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(), mode=0o600)

    def log(self, text: str) -> None:
        """Add a line to `log.txt`; never a donor's name."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._append(LOG, f"{now} {text}\n")

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        self._append(METRICS, json.dumps(row, sort_keys=True) + "\n")

    def cut_metrics(self, model: str, *, after_round: int) -> None:
        """Drop the lines of a model's rounds that its checkpoint has not seen: a resumed run writes them again."""
        path = self.path / METRICS
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _belongs(line, model, after_round)]
        self._write(METRICS, "".join(kept).encode())

    def save_checkpoint(self, state: bytes) -> None:
        """Keep a merged state, with its digest."""
        self._write(CHECKPOINT, sha256(state).digest() + state)

    def checkpoint(self) -> bytes | None:
        """Return the state that was kept last, if there is one.

        Raises
        ------
        InputError
            If the file is not what was written.
        """
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        content = path.read_bytes()
        if sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            msg = f"{path}: damaged. Start the run again without --resume."
            raise InputError(msg)
        return content[_DIGEST_BYTES:]

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint: the run has ended."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        write_whole(self.path / name, content, force=True, mode=mode)

    def _append(self, name: str, text: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            msg = f"{self.path / name}: cannot be written ({error.strerror}). Make room; --resume goes on."
            raise OutputError(msg) from error


def _belongs(line: str, model: str, last_round: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # the process was killed while it wrote the line
        return False
    return bool(row.get("model") != model or row.get("round", 0) <= last_round)


def choose_alone(runs: Path, name: str, *, resume: bool, force: bool) -> RunFolder:
    """Return the folder of a run of this site alone.

    A new name gets its folder. An existing one is gone on with (`resume`), replaced (`force`), or left alone: the run
    is then called `NAME-2`, and so on.

    Raises
    ------
    UsageError
        If there is nothing to resume, or it is a swarm's run, which goes on by itself and must not be replaced.
    """
    folder = RunFolder(runs / check_name(name))
    if resume:
        settings = folder.settings()
        if not settings:
            msg = f"--resume: there is no run {folder.path}. Start it without --resume, or give its --name."
            raise UsageError(msg)
        if "swarm" in settings:
            msg = f"--resume: {folder.path} is a swarm's run, which goes on by itself: give its swarm file with --join."
            raise UsageError(msg)
        return folder
    if not folder.path.exists():
        return folder
    if force:
        if (folder.path / LEDGER).exists():
            msg = f"--force: {folder.path} holds a swarm's ledger, which must not be lost. Give another --name."
            raise UsageError(msg)
        folder.clear()
        return folder
    return _next_free(runs, name)


def choose_in_swarm(runs: Path, name: str, *, swarm: str) -> RunFolder:
    """Return the folder of a run in a swarm, known by its digest (hex).

    A run of this site alone is joined: its folder gets the swarm's files beside. A run in the same swarm is gone on
    with, always: its ledger remembers what this site has signed. Beside a run in another swarm it is `NAME-2`.
    """
    for number in range(1, _NAMES_MAX):
        folder = RunFolder(runs / (check_name(name) if number == 1 else f"{name}-{number}"))
        if folder.settings().get("swarm", swarm) == swarm:
            return folder
    return _next_free(runs, name)


def _next_free(runs: Path, name: str) -> RunFolder:
    for number in range(2, _NAMES_MAX):
        if not (runs / f"{name}-{number}").exists():
            return RunFolder(runs / f"{name}-{number}")
    msg = f"{runs}: holds {_NAMES_MAX} runs of the name {name}. Remove some, or give another --name."
    raise OutputError(msg)


def check_name(name: str) -> str:
    """Return the name of a run, if it can be a folder's.

    Raises
    ------
    UsageError
        If it is empty or would leave the folder of runs.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name or len(name) > 128:
        msg = f"--name {name!r}: expected the name of a folder, such as site-a."
        raise UsageError(msg)
    return name
