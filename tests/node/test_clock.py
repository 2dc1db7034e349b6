"""Facts about clocks: a wall clock that jumps changes nothing, because nobody in a swarm reads one."""

import ast
from pathlib import Path

import swarmcell

ROOT = Path(swarmcell.__file__).parent
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            yield owner, node.attr


def test_the_swarm_the_node_and_the_engines_read_monotonic_clocks_only():
    files = [path for part in ("swarm", "node", "engine") for path in (ROOT / part).rglob("*.py")]
    files.remove(ROOT / "engine" / "nats_card.py")  # a certificate is valid from one date to another
    files.remove(ROOT / "node" / "ledger.py")  # people are shown when a block was first known here; nothing goes by it
    assert len(files) > 40
    assert any(("time", "monotonic") in set(calls(path)) for path in files), "this test sees no clock at all"
    assert {str(path): WALL & set(calls(path)) for path in files if WALL & set(calls(path))} == {}


def test_every_module_of_the_swarm_is_walled_off_from_the_auditor():
    """A module that is new must be in the contract that keeps the auditor independent, on one side or the other."""
    contract = (ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    names = {path.stem for path in (ROOT / "swarm").glob("*.py")} - {"__init__"}
    assert {name for name in names if f'"swarmcell.swarm.{name}"' not in contract} == set()
