"""What a person sees of a simulated swarm: its figures, with what each means."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from swarmcell.workflows.swarm.simulate import Simulated

MB = 1e6


def simulated(found: Simulated) -> RenderableType:
    """Return the table of a simulation."""
    plan = found.plan
    table = Table("a round costs", "", "")
    for what, value, meaning in _rows(found):
        table.add_row(what, value, meaning)
    head = f"{plan.peers} members, f = {plan.f}, quorum {found.quorum}; {found.rounds} of {plan.rounds} rounds merged"
    faults = f"{100 * plan.down:.0f} % down in each round, {plan.liars} lying"
    return Group(Text(head), Text(faults), table)


def _rows(found: Simulated) -> list[tuple[str, str, str]]:
    checkpoints = f"{found.checkpoint_bytes / MB:.3f} MB"
    return [
        ("a peer sends", f"{found.written_bytes_per_peer / MB:.3f} MB", "its update, sealed, and its votes"),
        ("a peer receives", f"{found.read_bytes_per_peer / MB:.3f} MB", "the others' updates and votes"),
        ("the log grows by", f"{found.log_bytes / MB:.3f} MB", "on each node of the engine, until it is trimmed"),
        ("and by checkpoints", checkpoints, "one state every 10 blocks, spread over the rounds"),
        ("beside the updates", f"{found.overhead_ratio:.4f} x", "all that is sent, checkpoints apart"),
        ("entries", f"{found.entries:.0f}", ""),
        ("blocks with another view", f"{found.views}", "in all rounds"),
        ("waiting by the rules", f"{found.virtual_s_per_round:.1f} s", "patience with who is down; training apart"),
        ("this machine takes", f"{found.seconds_per_round:.3f} s", f"for all peers: {found.rounds_per_s:.2f} rounds/s"),
        ("of its processor", f"{found.cpu_s_per_round:.3f} s", "with one shared reading of the log"),
    ]
