"""Results that outlive a run: one JSON file per case, in the folder of `--cache`, so that a run cut off goes on.

Rules: a file holds what its case was made from (`made_from`); where that differs, the case is computed anew. Without a
folder nothing is kept.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "SWARMCELL_BENCH_CACHE"  # set by `python -m benchmarks --cache FOLDER`


def kept(name: str, made_from: object, compute: Callable[[], Any]) -> Any:
    """Return a case's result: from its file, or computed and written."""
    if not (folder := os.environ.get(FOLDER)):
        return compute()
    path = Path(folder) / (re.sub(r"[^A-Za-z0-9.-]+", "_", name) + ".json")
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["made_from"] == repr(made_from):
            return held["found"]
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_suffix(".new")
    waiting.write_text(json.dumps({"made_from": repr(made_from), "found": found}), encoding="utf-8")
    waiting.replace(path)
    return found
