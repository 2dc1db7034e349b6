"""An auditor that shares no code with `State`: it reads raw entries by another decoder, and believes nothing.

From the genesis' bytes and the log's it checks encodings, signatures, author chains, certificates, and that every final
body follows: from the one before, from contributions that stand in the log with their chunks, from approved proposals.
It does not merge (who holds the keys and the task can, block by block).
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import cbor2

_PLAIN = (int, str, bytes, bool, type(None))
_FIELDS = {"swarm", "author", "sequence", "previous", "kind", "payload", "signature"}
_DECODE_ERRORS = (cbor2.CBORDecodeError, cbor2.CBOREncodeError, ValueError, TypeError, OverflowError, RecursionError)
_ZERO = bytes(32)


@dataclass
class Audit:
    """What an audit found: body digests by height, and every fault in words."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    n_entries: int = 0
    n_ignored: int = 0


@dataclass
class _Log:
    entries: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    commits: dict[int, dict[tuple[int, bytes], set[bytes]]] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    chunks: set[tuple[bytes, bytes]] = field(default_factory=set)
    approvals: dict[bytes, set[bytes]] = field(default_factory=dict)
    chains: dict[tuple[bytes, int], bytes] = field(default_factory=dict)


def audit(genesis: bytes, raws: Iterable[bytes], verify: Callable[[bytes, bytes, bytes], bool]) -> Audit:
    """Check a whole log against the genesis' canonical bytes."""
    found = Audit()
    rules = cbor2.loads(genesis)
    swarm = hashlib.sha256(b"swarmcell/genesis/v1\0" + genesis).digest()
    log = _Log()
    for raw in raws:
        found.n_entries += 1
        entry = _read(raw, swarm, verify)
        if entry is None:
            found.n_ignored += 1
        else:
            _file(log, hashlib.sha256(raw).digest(), entry, found)
    _check_chains(log, found)
    _walk(rules, log, found)
    return found


def _is_plain(value: Any) -> bool:  # noqa: ANN401 (what a decoder gave)
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return type(value) in _PLAIN


def _canonical(raw: bytes) -> Any:  # noqa: ANN401
    """Decode bytes; `None` if they are not the canonical ones of a plain value."""
    try:
        value = cbor2.loads(raw)
        return value if _is_plain(value) and cbor2.dumps(value, canonical=True) == raw else None
    except _DECODE_ERRORS:
        return None


def _read(raw: bytes, swarm: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> dict[str, Any] | None:
    entry = _canonical(raw)
    if not isinstance(entry, dict) or set(entry) != _FIELDS or entry["swarm"] != swarm:
        return None
    author, signature = entry["author"], entry["signature"]
    if not isinstance(author, bytes) or not isinstance(signature, bytes) or not isinstance(entry["payload"], dict):
        return None
    unsigned = {name: value for name, value in entry.items() if name != "signature"}
    message = b"swarmcell/entry/v1\0" + cbor2.dumps(unsigned, canonical=True)
    return entry if verify(author, message, signature) else None


def _file(log: _Log, digest: bytes, entry: dict[str, Any], found: Audit) -> None:
    """Sort a signed entry into what the blocks are checked against."""
    author, sequence, payload = entry["author"], entry["sequence"], entry["payload"]
    other = log.chains.setdefault((author, sequence), digest)
    if other != digest:
        found.faults.append(f"{author.hex()[:16]} signed two entries at sequence {sequence}")
    log.entries[digest] = entry
    match entry["kind"], payload:
        case "blob", {"content": bytes(content)}:
            log.chunks.add((author, hashlib.sha256(content).digest()))
        case "commit", {"height": int(height), "view": int(view), "body": bytes(body), "content": bytes(content)}:
            log.commits.setdefault(height, {}).setdefault((view, body), set()).add(author)
            _keep_body(log, content)
        case "next", {"content": bytes(content)}:
            _keep_body(log, content)
        case "approve", {"proposal": bytes(proposal)}:
            log.approvals.setdefault(proposal, set()).add(author)
        case "propose", _:
            log.approvals.setdefault(digest, set()).add(author)


def _keep_body(log: _Log, content: bytes) -> None:
    if content:
        log.bodies[hashlib.sha256(b"swarmcell/body/v1\0" + content).digest()] = content


def _check_chains(log: _Log, found: Audit) -> None:
    for (author, sequence), digest in log.chains.items():
        before = log.chains.get((author, sequence - 1), _ZERO if sequence == 1 else None)
        if before is not None and log.entries[digest]["previous"] != before:
            found.faults.append(f"entry {sequence} of {author.hex()[:16]} does not follow on its author's entry before")


def _walk(rules: dict[str, Any], log: _Log, found: Audit) -> None:
    """Follow the final blocks from the genesis."""
    keys, f = sorted(m["signing_key"] for m in rules["founders"]), rules["f"]
    last: dict[str, Any] | None = None
    previous, height = _ZERO, 0
    while True:
        decided = _decided(log, height, set(keys), f)
        if len(decided) > 1:
            found.faults.append(f"two blocks are final at height {height}")
        if not decided:
            return
        digest = decided[0]
        body = _canonical(log.bodies[digest]) if digest in log.bodies else None
        if not isinstance(body, dict):
            found.faults.append(f"the body of block {height} is not in the log")
            return
        found.faults.extend(f"block {height}: {fault}" for fault in _faults(body, last, previous, height, log, keys, f))
        found.blocks[height] = digest
        last, previous, height = body, digest, height + 1
        keys, f = [row[1] for row in body["roster"]], body["f"]


def _decided(log: _Log, height: int, keys: set[bytes], f: int) -> list[bytes]:
    quorum = (len(keys) + f) // 2 + 1
    votes = log.commits.get(height, {})
    return sorted({body for (_, body), authors in votes.items() if len(authors & keys) >= quorum})


def _faults(
    body: dict[str, Any],
    last: dict[str, Any] | None,
    previous: bytes,
    height: int,
    log: _Log,
    keys: list[bytes],
    f: int,
) -> list[str]:
    """Say how a body does not follow."""
    faults = []
    if body["height"] != height or body["previous"] != previous:
        faults.append("does not follow on the block before")
    if last is not None and last["finished"]:
        faults.append("comes after the study's end")
    number = (0 if last is None else last["round"]) + (body["kind"] == "merge")
    if body["round"] != number:
        faults.append(f"says round {body['round']}, expected {number}")
    if body["kind"] == "merge" and last is not None:
        rows = body["included"] + body["left_out"]
        faults += [fault for row in rows if (fault := _row_fault(row, number, last["state"], log, keys))]
    elif last is not None:
        faults += _change_faults(body, last, log, keys, f)
    return faults


def _row_fault(row: list[Any], number: int, base: bytes, log: _Log, keys: list[bytes]) -> str:
    author, digest = row[0], row[1]
    entry = log.entries.get(digest)
    if (
        entry is None
        or entry["author"] != author
        or author not in keys
        or entry["kind"] not in {"update", "statistics"}
    ):
        return f"names a contribution of {author.hex()[:16]} that is not in the log"
    payload = entry["payload"]
    if payload["round"] != number or payload["base"] != base:
        return f"merges a contribution of {author.hex()[:16]} that is of another round or state"
    missing = [chunk for chunk in payload["chunks"] if (author, chunk) not in log.chunks]
    return f"merges a contribution of {author.hex()[:16]} whose chunks are not in the log" if missing else ""


def _change_faults(body: dict[str, Any], last: dict[str, Any], log: _Log, keys: list[bytes], f: int) -> list[str]:
    entry = log.entries.get(body["proposal"])
    if entry is None or entry["kind"] != "propose" or entry["payload"]["change"] != body["kind"]:
        return ["carries out a proposal that is not in the log"]
    faults = []
    if len(log.approvals.get(body["proposal"], set()) & set(keys)) < (len(keys) + f) // 2 + 1:
        faults.append("carries out a proposal that no quorum approved")
    if body["state"] != last["state"]:
        faults.append("changes the merged state without a merge")
    about = entry["payload"]["member"]["signing_key"]
    after = {row[1] for row in body["roster"]}
    expected = {"admit": set(keys) | {about}, "revoke": set(keys) - {about}}.get(body["kind"], set(keys))
    if after != expected:
        faults.append("changes the roster otherwise than proposed")
    return faults
