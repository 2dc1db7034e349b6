"""How the auditor reads: entries and bodies by another decoder (cbor2) than `State` has, checked against plain tables.

Total: any bytes give an entry, a body, or a word for why they are none.
"""

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import cbor2

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
_BYTES_MAX = 1_000_000
_PLAIN = (str, bytes, bool, type(None))
# also what cbor2 lets through from the tags that it turns into numbers and dates
_DECODE_ERRORS = (cbor2.CBORError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)

# Shapes: a type, [shape] for a list, (shape, ...) for a row, {name: shape} for a map with exactly these keys.
_WRAPS = [(bytes, bytes)]
_MEMBER = {"name": str, "signing_key": bytes, "sealing_key": bytes}
_CONTRIBUTION = {
    **dict.fromkeys(("round", "epoch", "size_bytes", "n_cells", "n_donors"), int),
    "base": bytes,
    "parameters": bytes,
    "chunks": [bytes],
    "figures": dict,
}
_CHECKPOINT = {"height": int, "epoch": int, "content": bytes, "certificate": [bytes], "chunks": [bytes]}
_NEXT = {"height": int, "view": int, "certified": int, "content": bytes, "known": [bytes], "approved": [bytes]}
_KINDS: dict[str, Any] = {
    "accept": {"key_digest": bytes, "wraps": _WRAPS},
    "blob": {"content": bytes},
    "statistics": _CONTRIBUTION,
    "update": _CONTRIBUTION,
    "patience": {"round": int},
    "attest": {"height": int, "view": int, "body": bytes},
    "commit": {"height": int, "view": int, "body": bytes, "content": bytes},
    "next": _NEXT,
    "propose": {"change": str, "member": _MEMBER, "f": int, "key_digest": bytes, "wraps": _WRAPS},
    "approve": {"proposal": bytes},
    "wrap": {"key_digest": bytes, "wraps": _WRAPS},
    "checkpoint": {**_CHECKPOINT, "size_bytes": int},
    "acknowledge": {"height": int, "checkpoint": bytes},
    "evaluation": {"state": bytes, "counts": dict},
    "trained": {"commitment": bytes, "epoch": int, "content": bytes},
}
_ENTRY = {
    **dict.fromkeys(("swarm", "author", "previous", "signature"), bytes),
    "sequence": int,
    "kind": str,
    "payload": dict,
}
_BODY = {
    **dict.fromkeys(("height", "round", "f", "epoch"), int),
    **dict.fromkeys(("previous", "key_digest", "proposal", "state"), bytes),
    "kind": str,
    "failure": str,
    "finished": bool,
    "about": dict,
    "roster": [(str, bytes, bytes, int)],
    "included": [(bytes, bytes)],
    "left_out": [(bytes, bytes, str)],
}


def _fits(value: Any, shape: Any) -> bool:  # noqa: ANN401 (what a decoder gave)
    if isinstance(shape, list):
        return type(value) is list and all(_fits(item, shape[0]) for item in value)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(_fits, value, shape))
    if isinstance(shape, dict):
        return type(value) is dict and value.keys() == shape.keys() and all(_fits(value[k], shape[k]) for k in shape)
    return type(value) is shape


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return -(2**63) <= value < 2**63 if type(value) is int else type(value) in _PLAIN


def _canonical(raw: bytes) -> Any:  # noqa: ANN401
    """Decode bytes; `None` if they are too many, or not the canonical ones."""
    try:
        value = cbor2.loads(raw) if len(raw) <= _BYTES_MAX else None
        return value if _is_plain(value) and cbor2.dumps(value, canonical=True) == raw else None
    except _DECODE_ERRORS:
        return None


def read_entry(raw: bytes, swarm: bytes, verify: Verify) -> dict[str, Any] | str:
    """Return a signed entry of this swarm, or why these bytes are none."""
    entry = _canonical(raw)
    if not _fits(entry, _ENTRY) or not _fits(entry["payload"], _KINDS.get(entry["kind"])):
        return "malformed"
    sizes = [len(entry[name]) for name in ("author", "previous", "signature")]
    if sizes != [32, 32, 64] or not 1 <= entry["sequence"] <= 2**40:
        return "malformed"
    if entry["swarm"] != swarm:
        return "of another swarm"
    unsigned = {name: value for name, value in entry.items() if name != "signature"}
    message = b"swarmcell/entry/v1\0" + cbor2.dumps(unsigned, canonical=True)
    return entry if verify(entry["author"], message, entry["signature"]) else "not signed by its author"


def read_body(raw: bytes) -> dict[str, Any] | None:
    """Return a body; `None` if these bytes are none."""
    body = _canonical(raw)
    return body if _fits(body, _BODY) and body["roster"] else None


def body_name(content: bytes) -> bytes:
    """Return what votes call a body: a digest of its bytes."""
    return hashlib.sha256(b"swarmcell/body/v1\0" + content).digest()
