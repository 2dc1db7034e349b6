"""An auditor that shares no code with `State`: it reads raw entries by another decoder, and believes nothing.

From the genesis' bytes and the log's it checks encodings, signatures, members' chains, certificates, and that every
final body follows: from the one before, from contributions that stand in the log with their chunks, from approved
proposals. It does not merge (who holds the keys and the task can, block by block), and it does not judge when a round
closed: what a view decided depends on the order in which its voters read. In a log whose beginning is trimmed it begins
at a checkpoint's block that founders or a pin vouch for (`audit_checkpoints`), and checks nothing before.

Total: any bytes are audited without an exception; only the genesis must be one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from swarmcell.swarm.audit_checkpoints import Anchor, anchors
from swarmcell.swarm.audit_entries import Verify, body_name, read_body, read_entry

_ZERO = bytes(32)


@dataclass
class Audit:
    """What an audit found.

    Attributes
    ----------
    blocks
        Digest of the final body by height.
    faults
        What is wrong with the history, in words.
    n_entries, n_signed
        Entries read, and those of this swarm whose signature holds.
    ignored
        How many of the others, by reason; anybody who can write to an engine can make such.
    anchor
        The checkpoint's block at which it began; `None`: at the genesis.
    n_checkpoints
        How many checkpoints the log holds, vouched for or not.
    """

    blocks: dict[int, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    n_entries: int = 0
    n_signed: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    anchor: Anchor | None = None
    n_checkpoints: int = 0


@dataclass
class _Log:
    entries: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    commits: dict[int, dict[tuple[int, bytes], set[bytes]]] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    chunks: set[tuple[bytes, bytes]] = field(default_factory=set)
    approvals: dict[bytes, set[bytes]] = field(default_factory=dict)
    chains: dict[tuple[bytes, int], tuple[bytes, bytes]] = field(default_factory=dict)
    twice: set[tuple[bytes, int]] = field(default_factory=set)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Step:
    """Where the walk stands: the last final body (`None` before the first), its digest, and who decides the next."""

    last: dict[str, Any] | None
    digest: bytes
    height: int
    roster: list[list[Any]]  # rows of name, signing key, sealing key, last round
    f: int

    @property
    def keys(self) -> set[bytes]:
        return {row[1] for row in self.roster}

    @property
    def quorum(self) -> int:
        return (len(self.roster) + self.f) // 2 + 1


def audit(genesis: bytes, raws: Iterable[bytes], verify: Verify, pins: Mapping[int, bytes] | None = None) -> Audit:
    """Check a log against the genesis' canonical bytes.

    Parameters
    ----------
    pins
        Body digests by height that somebody trusted vouches for.
    """
    found, log = Audit(), _Log()
    rules = cbor2.loads(genesis)
    swarm = hashlib.sha256(b"swarmcell/genesis/v1\0" + genesis).digest()
    for raw in raws:
        found.n_entries += 1
        entry = read_entry(raw, swarm, verify)
        if isinstance(entry, str):
            found.ignored[entry] += 1
        else:
            found.n_signed += 1
            _file(log, hashlib.sha256(raw).digest(), entry)
    found.n_checkpoints = len(log.checkpoints)
    founding = _founding(rules)
    step = founding if _decided(log, founding) else _resumed(log, swarm, rules, verify, pins or {}, found) or founding
    members = founding.keys | _walk(step, rules, log, found)
    found.faults += [
        f"block {height}: it is not the one that is vouched for"
        for height, digest in sorted((pins or {}).items())
        if found.blocks.get(height, digest) != digest
    ]
    found.faults += _chain_faults(log, members)
    return found


def _file(log: _Log, digest: bytes, entry: dict[str, Any]) -> None:
    """Sort a signed entry into what the blocks are checked against."""
    author, place, payload = entry["author"], (entry["author"], entry["sequence"]), entry["payload"]
    if log.chains.setdefault(place, (digest, entry["previous"]))[0] != digest:
        log.twice.add(place)
    match entry["kind"]:
        case "blob":
            log.chunks.add((author, _sha256(payload["content"])))
        case "commit" if not payload["content"] or body_name(payload["content"]) == payload["body"]:
            votes = log.commits.setdefault(payload["height"], {})
            votes.setdefault((payload["view"], payload["body"]), set()).add(author)
            log.bodies[payload["body"]] = payload["content"] or log.bodies.get(payload["body"], b"")
        case "next":
            log.bodies[body_name(payload["content"])] = payload["content"]
        case "approve":
            log.approvals.setdefault(payload["proposal"], set()).add(author)
        case "checkpoint":
            log.checkpoints.append(payload)
        case "propose" | "update" | "statistics" | "accept":
            log.entries[digest] = entry


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _chain_faults(log: _Log, members: set[bytes]) -> list[str]:
    """Say which members contradict themselves; what others write means nothing."""
    faults = []
    for (author, sequence), (_, previous) in log.chains.items():
        who = f"{author.hex()[:16]}, entry {sequence}"
        before = log.chains.get((author, sequence - 1), (_ZERO if sequence == 1 else previous, b""))[0]
        if author in members and (author, sequence) in log.twice:
            faults.append(f"{who}: two different entries are signed (the author equivocates)")
        if author in members and before != previous:
            faults.append(f"{who}: does not follow on its author's entry before")
    return faults


def _founding(rules: Mapping[str, Any]) -> _Step:
    """Return the step before the first block."""
    founders = sorted([m["name"], m["signing_key"], m["sealing_key"], 0] for m in rules["founders"])
    return _Step(None, _ZERO, 0, sorted(founders, key=lambda row: row[1]), rules["f"])


def _resumed(
    log: _Log, swarm: bytes, rules: Mapping[str, Any], verify: Verify, pins: Mapping[int, bytes], found: Audit
) -> _Step | None:
    """Return the step after the oldest vouched checkpoint on which a block follows, or else after the newest."""
    steps = []
    for anchor in anchors(log.checkpoints, swarm, rules, verify, pins):
        found.anchor = anchor
        steps.append(_Step(anchor.body, anchor.digest, anchor.height + 1, anchor.body["roster"], anchor.body["f"]))
        if _decided(log, steps[-1]):
            break
    if found.anchor is not None:
        found.blocks[found.anchor.height] = found.anchor.digest
    return steps[-1] if steps else None


def _walk(step: _Step, rules: Mapping[str, Any], log: _Log, found: Audit) -> set[bytes]:
    """Follow the final blocks from a step on; return everybody who was a member since."""
    members = step.keys
    while decided := _decided(log, step):
        if len(decided) > 1:
            found.faults.append(f"block {step.height}: two bodies are final, the swarm has forked")
        digest = decided[0]
        body = read_body(log.bodies.get(digest, b""))
        if body is None:
            found.faults.append(f"block {step.height}: no body with its digest is in the log")
            break
        found.faults.extend(f"block {step.height}: {fault}" for fault in _faults(body, step, log, rules))
        found.blocks[step.height] = digest
        step = _Step(body, digest, step.height + 1, body["roster"], body["f"])
        members |= step.keys
    return members


def _decided(log: _Log, step: _Step) -> list[bytes]:
    votes = log.commits.get(step.height, {})
    return sorted({body for (_, body), authors in votes.items() if len(authors & step.keys) >= step.quorum})


def _faults(body: dict[str, Any], step: _Step, log: _Log, rules: Mapping[str, Any]) -> list[str]:
    """Say how a final body does not follow."""
    last = step.last
    number = (0 if last is None else last["round"]) + (body["kind"] == "merge")
    wrong = {
        "it does not follow on the block before": (body["height"], body["previous"]) != (step.height, step.digest),
        f"it says round {body['round']}, expected {number}": body["round"] != number,
        "it comes after the study's end": last is not None and last["finished"],
    }
    faults = [fault for fault, holds in wrong.items() if holds]
    if last is None:
        return faults + _founding_faults(body, step, log)
    if body["kind"] == "merge":
        return faults + _merge_faults(body, last, step, log, rules["min_updates"])
    return faults + _change_faults(body, last, step, log)


def _differing(body: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [f"its {name} is not what follows" for name, value in expected.items() if body[name] != value]


def _founding_faults(body: dict[str, Any], step: _Step, log: _Log) -> list[str]:
    accept = log.entries.get(body["proposal"])
    expected = {"kind": "genesis", "roster": step.roster, "f": step.f, "epoch": 0, "finished": False}
    if accept is None or accept["kind"] != "accept" or accept["author"] not in step.keys:
        return ["it takes a key that no founder brought", *_differing(body, expected)]
    return _differing(body, {**expected, "key_digest": accept["payload"]["key_digest"]})


def _merge_faults(body: dict[str, Any], last: dict[str, Any], step: _Step, log: _Log, min_updates: int) -> list[str]:
    rows = body["included"] + body["left_out"]
    authors = [row[0] for row in rows]
    roster = [[*row[:3], body["round"] if row[1] in authors else row[3]] for row in step.roster]
    kept = {name: last[name] for name in ("f", "epoch", "key_digest")}
    faults = _differing(body, {"roster": roster, "proposal": b"", **kept})
    if len(set(authors)) < len(authors):
        faults.append("it merges two contributions of one author")
    needed = last["about"].get("sites_needed", 0)
    if len(authors) < max(min(min_updates, step.quorum), needed if isinstance(needed, int) else 0):
        faults.append(f"it merges {len(authors)} contributions, fewer than the rules allow")
    return faults + [fault for row in rows if (fault := _row_fault(row, body["round"], last, log, step.keys))]


def _row_fault(row: list[Any], number: int, last: dict[str, Any], log: _Log, keys: set[bytes]) -> str:
    author, entry = row[0], log.entries.get(row[1])
    whose = f"a contribution of {author.hex()[:16]}"
    if entry is None or entry["author"] != author or entry["kind"] not in {"update", "statistics"}:
        return f"it merges {whose} that is not in the log"
    payload = entry["payload"]
    if author not in keys:
        return f"it merges {whose}, who is not a member"
    if payload["round"] != number or payload["base"] != last["state"] or payload["epoch"] > last["epoch"]:
        return f"it merges {whose} that is of another round, state or key"
    missing = [chunk for chunk in payload["chunks"] if (author, chunk) not in log.chunks]
    return f"it merges {whose} whose chunks are not in the log" if missing else ""


def _change_faults(body: dict[str, Any], last: dict[str, Any], step: _Step, log: _Log) -> list[str]:
    entry = log.entries.get(body["proposal"])
    if entry is None or entry["kind"] != "propose" or entry["payload"]["change"] != body["kind"]:
        return ["it carries out a proposal that is not in the log"]
    change, member = entry["payload"], entry["payload"]["member"]
    roster = [row for row in step.roster if body["kind"] != "revoke" or row[1] != member["signing_key"]]
    if body["kind"] == "admit":
        roster.append([member["name"], member["signing_key"], member["sealing_key"], last["round"]])
    expected = {
        "roster": sorted(roster, key=lambda row: row[1]),
        "f": change["f"],
        "key_digest": change["key_digest"],
        "epoch": last["epoch"] + (change["key_digest"] != last["key_digest"]),
        "state": last["state"],
        "finished": body["kind"] == "end",
        "included": [],
        "left_out": [],
    }
    approvers = (log.approvals.get(body["proposal"], set()) | {entry["author"]}) & step.keys
    lonely = ["it carries out a proposal that no quorum approved"] if len(approvers) < step.quorum else []
    return lonely + _differing(body, expected)
