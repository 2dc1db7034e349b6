"""A peer in a process of its own, for system tests: it sums integers in a swarm, and dies where a test says so.

Usage: sums_peer.py SWARM_FILE IDENTITY RUN_FOLDER [ROUNDS [SIZE [SLEEP_S]]], with KILL_AT = "WHEN KIND NUMBER" in the
environment, such as "stored update 2": SIGKILL itself when its second update is stored and not yet appended.
Prints one JSON line per event.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from swarmcell.node.outbox import Outbox
from swarmcell.node.signer import Signer
from swarmcell.node.task import Contribution, Merge
from swarmcell.workflows.join import refuse_without_result, take_part, take_seat


class Sums:
    """A study that learns the sum of what all sites say, exactly; `size` bytes travel per update."""

    def __init__(self, name, rounds, size=0, sleep_s=0.0):
        self.name, self.rounds, self.size, self.sleep_s = name, rounds, size, sleep_s

    def start(self):
        return json.dumps({"round": 0, "sum": 0, "padding": ""}).encode()

    def contribute(self, state, stop):
        now = json.loads(state)
        if stop.wait(self.sleep_s):
            return None
        said = int.from_bytes(hashlib.sha256(f"{self.name} {now['round']} {now['sum']}".encode()).digest()[:6], "big")
        padding = hashlib.shake_128(self.name.encode()).hexdigest(self.size // 2)
        return Contribution(
            kind="update", parameters=json.dumps([said, padding]).encode(), n_cells=10, n_donors=5, figures={"n": 1}
        )

    def merge(self, state, contributions):
        now = json.loads(state)
        said = [json.loads(c.parameters) for c in contributions]
        number = now["round"] + 1
        merged = {"round": number, "sum": now["sum"] + sum(s[0] for s in said), "padding": max(s[1] for s in said)}
        return Merge(state=json.dumps(merged).encode(), finished=number >= self.rounds)

    def describe(self, state):
        return {"stage": "sums", "round": json.loads(state)["round"]}


def die_at(when, kind, number):
    """Plant a SIGKILL `before` storing, when `stored`, or `after` appending the number-th own entry of a kind."""
    seen = []

    def count(payloads):
        of_kind = [payload for payload in payloads if kind == payload.KIND]
        seen.extend(of_kind)
        return bool(of_kind) and len(seen) == number

    sign, put, sent = Signer.sign, Outbox.put, Outbox._sent
    due = []

    async def mortal_sign(self, payloads):
        if count(payloads):
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            due.append(when)
        await sign(self, payloads)

    def mortal_put(self, entries):
        if due == ["stored"]:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, entries)

    def mortal_sent(self, batch):
        if due == ["after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        sent(self, batch)

    Signer.sign, Outbox.put, Outbox._sent = mortal_sign, mortal_put, mortal_sent


def main():
    swarm_file, name, run, *numbers = sys.argv[1:]
    rounds, size, sleep_s = (float(n) for n in [*numbers, *("3", "0", "0")[len(numbers) :]])
    if plan := os.environ.get("KILL_AT"):
        when, kind, number = plan.split()
        die_at(when, kind, int(number))

    def tell(event, about):
        print(json.dumps({"event": event, "at": time.monotonic(), **about}), flush=True)  # noqa: T201 (the test reads it)

    seat = take_seat(Path(swarm_file), identity=name)
    task = Sums(name, int(rounds), int(size), sleep_s)
    ended = take_part(seat, task, run=Path(run), observer=tell)
    refuse_without_result(ended, "its sums")
    tell("ended", {"height": ended.height, "digest": ended.digest.hex(), "rounds": json.loads(ended.state)["round"]})


if __name__ == "__main__":
    main()
