"""A privacy audit on the console and as JSON."""

import json

from rich.console import Console
from rich.table import Table

from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.membership import FALSE_SHARE
from swarmcell.report import names
from swarmcell.workflows.audit_privacy import PrivacyAudit

MEANING = (
    "Held-out donors are other people: what tells the two apart may be the donors, and not that the model was trained "
    "on one of them. Unlike intervals at guessing, an interval above it is a reason to protect the model."
)


def show(found: PrivacyAudit, console: Console) -> None:
    """Print what each attack achieved, with intervals, and what it means."""
    donors = f"{found.n_train_donors} trained and {found.n_held_out_donors} held-out donors"
    console.print(f"{found.study}: {donors}", style="bold", markup=False)
    table = Table("model", "attack", title="Can trained cells be told from others?", title_justify="left")
    for head in ("AUROC (0.50: guessing)", f"caught at {FALSE_SHARE:.0%} false alarms", "right: trained", "held out"):
        table.add_column(head, justify="right")
    for model in found.models:
        right = (f"{model.right_trained:.2f}", f"{model.right_held_out:.2f}")
        for attack in model.attacks:
            table.add_row(model.name, attack.name, words(attack.found.auroc), words(attack.found.caught), *right)
    console.print(table)
    for line in sentences(found):
        console.print(f"- {line}", markup=False)
    console.print(MEANING, markup=False)


def sentences(found: PrivacyAudit) -> list[str]:
    """Say the verdict on each model, and what a reader must bear in mind."""
    said = []
    for model in found.models:
        for attack in model.attacks:
            cells = names.counted(attack.found.n_members, "trained cell")
            about = f"{model.name} ({model.meaning}), {attack.name}"
            said.append(f"{about}: {attack.verdict} ({cells}, {attack.found.n_others:,} others).")
    return [*said, *filter(None, [found.terms])]


def as_json(found: PrivacyAudit) -> bytes:
    """Return the audit as a JSON document."""
    return (json.dumps(found.to_json(), indent=2, sort_keys=True) + "\n").encode()


def words(found: Estimate) -> str:
    """Return an estimate with its interval, or why there is none."""
    if found.value is None:
        return found.note
    if not found.has_interval:
        return f"{found.value:.3f} ({found.note})"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
