"""What a person sees of a swarm: its members and where it stands, and its blocks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from swarmcell.workflows.swarm.published import TRIMMED, Published
from swarmcell.workflows.swarm.view import MemberView, ProposalView, SwarmView, blocks_json


def status(seen: SwarmView) -> RenderableType:
    """Return the members' table with where the swarm stands above it."""
    table = Table("member", "up", "last seen", "height", "doing", "last round in")
    for member in seen.members:
        table.add_row(*_member(member))
    return Group(*(Text(line) for line in _head(seen)), table)


def _head(seen: SwarmView) -> list[str]:
    n_up = sum(member.is_up for member in seen.members)
    lines = [
        f"study {seen.study}, swarm {seen.digest[:16]}: {len(seen.members)} members, quorum {seen.quorum}, "
        f"f = {seen.f}, key epoch {seen.epoch}"
    ]
    if seen.engine is not None:
        size = f"{seen.engine.last - seen.engine.first + 1} entries, {seen.engine.size_bytes / 2**20:.1f} MiB"
        lines.append(f"engine {seen.engine.engine}: {size}, {seen.engine.about}")
    if seen.finished:
        lines.append(f"ended at block {seen.height - 1}" + (f": {seen.failure}" if seen.failure else ""))
    else:
        lines.append(f"deciding block {seen.height} (view {seen.view}), round {seen.round}")
        lines.append(f"waits for {seen.waits_for}: {', '.join(seen.waited_for)}")
        away = [member.name for member in seen.members if member.name in seen.waited_for and not member.is_up]
        if away and n_up:
            lines.append(
                f"no sign of life of {', '.join(away)}: all goes on by itself once train --join runs there again"
            )
    lines += [f"open proposal {p.digest[:16]}: {_proposed(p, seen)}" for p in seen.proposals if not p.fault]
    if not seen.finished and n_up < seen.quorum:
        lines.append(_paused(n_up, seen))
    return lines


def _paused(n_up: int, seen: SwarmView) -> str:
    if not seen.blocks:
        return f"NOT BEGUN: {n_up} members are up, {seen.quorum} are needed. It begins when they train --join."
    return f"PAUSED: {n_up} members are up, {seen.quorum} are needed. It goes on by itself when they return."


def _proposed(proposal: ProposalView, seen: SwarmView) -> str:
    votes = f"{len(proposal.approved_by)} of {seen.quorum} approvals ({', '.join(proposal.approved_by)})"
    what = _OF_ALL.get(proposal.change) or f"{proposal.change} {proposal.member}"
    return f"{what}, {votes}"


_OF_ALL = {"rotate": "rotate (a fresh swarm key)", "end": "end (the swarm, for good)"}


def proposals(seen: SwarmView) -> Table:
    """Return the open proposals, one row each."""
    table = Table("proposal", "change", "member", "f", "by", "approved by", "needed", "can follow")
    for p in seen.proposals:
        approved = ", ".join(p.approved_by)
        table.add_row(p.digest[:16], p.change, p.member, str(p.f), p.by, approved, str(seen.quorum), p.fault or "yes")
    return table


def _member(member: MemberView) -> tuple[str, ...]:
    said = member.presence
    if said is None:
        return member.name, "no", "never", "", "", str(member.last_round)
    up = "yes" if said.is_up else "no"
    return member.name, up, f"{said.age_s:.0f} s ago", str(max(said.height, 0)), said.doing, str(member.last_round)


def blocks(seen: SwarmView) -> RenderableType:
    """Return the blocks, one row each, and what was trimmed of them; eight columns fit into 80 characters."""
    names = ("block", "kind", "after", "accuracy", "merged or changed", "left out", "state", "commits")
    table = Table(*names, padding=0)
    for block in blocks_json(seen):
        n_members = len(block["members"])
        left_out = "; ".join(f"{name}: {reason}" for name, reason in block["left_out"].items())
        merged = [name for name in block["members"] if name in block["included"]]
        table.add_row(
            str(block["height"]),
            block["kind"] + (" (end)" if block["finished"] else ""),
            _after(block["about"]),
            _validation(block["about"]),
            _changed(block) or ("all" if len(merged) == n_members else ", ".join(merged)),
            left_out,
            block["state"][:12],
            f"{block['commits']} of {n_members}" if block["commits"] else "trimmed",
        )
    return Group(table, *map(Text, _trimmed(seen)))


def _trimmed(seen: SwarmView) -> Iterator[str]:
    """Say which blocks the log at hand no longer holds, or holds without their votes."""
    if seen.blocks and (first := seen.blocks[0].body.height):
        yield f"blocks 0 to {first - 1} were trimmed from this log. A member's own copy may hold them: --ledger"
    if bare := [block.body.height for block in seen.blocks if not block.certificate]:
        yield f"of blocks {bare[0]} to {bare[-1]} only what they say is kept; their votes were trimmed (history_gb_max)"


def _changed(block: Mapping[str, Any]) -> str:
    """Say what a block changed, who decided it, where it became final here, and since when."""
    if not block["changed"]:
        return ""
    said = [str(block["changed"])]
    if block["proposed_by"]:
        said.append(f"proposed by {block['proposed_by']}, approved by {', '.join(block['approved_by'])}")
    elif block["proposal"]:
        said.append("who proposed and approved it was trimmed from this log")
    if block["position"]:
        said.append(f"final at entry {block['position']}")
    if block["known_since"]:
        said.append(f"known here since {block['known_since'][:16].replace('T', ' ')} UTC")
    return "; ".join(said)


def mine(found: Sequence[Published]) -> RenderableType:
    """Return what a site published: one row per kind of entry, with the range of what stands in clear."""
    table = Table("kind", "entries", "bytes", "in clear, for whoever runs the engine", "sealed for members")
    for kind in sorted({one.kind for one in found}):
        some = [one for one in found if one.kind == kind]
        names = dict.fromkeys(name for one in some for name in one.clear)
        clear = [f"{name} {_range([one.clear[name] for one in some if name in one.clear])}" for name in names]
        sealed = "yes" if any(one.sealed for one in some) else ""
        table.add_row(kind, f"{len(some):,}", f"{sum(o.size_bytes for o in some):,}", ", ".join(clear), sealed)
    said = f"{len(found):,} entries, {sum(one.size_bytes for one in found):,} bytes. --json lists each one."
    if gone := [one.sequence for one in found if one.kind == TRIMMED]:
        said += (
            f" Of {len(gone):,} of them ({min(gone):,} to {max(gone):,}) the ledger keeps the digests only: they are "
            "older than what history_gb_max keeps, and their bytes are not counted."
        )
    total = Text(said)
    inside = _opened(found)
    return Group(table, total) if inside is None else Group(table, inside, total)


def _opened(found: Sequence[Published]) -> Table | None:
    """Return what stood sealed: each array's name, and its kinds and shapes over all entries."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for one in found:
        for name, shape in one.contents.items():
            shapes.setdefault((one.kind, name), []).append(shape)
    if not shapes:
        return None
    table = Table("sealed in", "array", "entries", "kind and shape")
    for (kind, name), several in shapes.items():
        table.add_row(kind, name, f"{len(several):,}", _range(several))
    return table


_TEXTS_SHOWN = 3


def _range(values: Sequence[int | str]) -> str:
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) < len(values):
        different = sorted(set(map(str, values)))
        return "; ".join(different) if len(different) <= _TEXTS_SHOWN else f"({len(different)} different texts)"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _after(about: Mapping[str, str | int]) -> str:
    """Say where the study stands after a block: `cell 3` is the stage and its rounds so far."""
    stage, rounds = about.get("stage", ""), about.get("stage_round", 0)
    spent = f" ({about['noised_sums']} noised sums)" if "noised_sums" in about else ""  # under differential privacy
    return (f"{stage} {rounds}" if rounds else str(stage)) + spent


def _validation(about: Mapping[str, str | int]) -> str:
    n = int(about.get("validation_n", 0))
    return f"{int(about['validation_correct']) / n:.3f}" if n else ""
