"""`evaluate --join`: this site's counts go into the log, and the swarm's figures come out of it.

Rules: only this site's own held-out donors are counted, on a model that a final block of the swarm holds. What is
published is decided by the study's floors, and said. Reading alone (`publish=False`) signs nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from swarmcell.errors import CellsError, ModelError, SwarmError, UsageError
from swarmcell.model import released
from swarmcell.model.released import TrainedModel
from swarmcell.model.study import Study
from swarmcell.node import identity as identities
from swarmcell.node import ledger as ledgers
from swarmcell.node.postscript import Postscript
from swarmcell.swarm.payloads import Evaluation
from swarmcell.swarm.state import State
from swarmcell.workflows.evaluate import run_facts
from swarmcell.workflows.evaluation import site_counts, swarm_figures
from swarmcell.workflows.evaluation.cohort import Cohort, gather
from swarmcell.workflows.evaluation.fit import check_fit
from swarmcell.workflows.evaluation.ledger_facts import LedgerFacts, facts
from swarmcell.workflows.evaluation.scores import score_cells, score_samples
from swarmcell.workflows.evaluation.site_counts import Counts
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures
from swarmcell.workflows.evaluation.trained_on import refuse_trained_on
from swarmcell.workflows.join import LEDGER, Seat
from swarmcell.workflows.stream import PreparedFile


def across_the_swarm(
    model: Path,
    files: Sequence[Path],
    *,
    seat: Seat,
    publish: bool = True,
    wait_s: float = 0.0,
    tell: Callable[[str], None] = lambda _: None,
) -> SwarmFigures:
    """Publish this site's counts for a merged model, and return the figures of all members' counts.

    Parameters
    ----------
    model
        The merged model in its run's folder, beside this site's ledger.
    files
        This site's prepared files.
    seat
        The place in the swarm (`workflows.join.take_seat`).
    publish
        Whether to sign; else the log is only read.
    wait_s
        How long to wait for members who have not published.
    tell
        Called with what is published and what is withheld, in words.

    Raises
    ------
    UsageError
        If there is no ledger beside the model, or the files hold other sites' donors.
    ModelError
        If the model is not one that this swarm made.
    CellsError
        If nothing reaches the study's floors.
    SwarmError
        If the peer still runs, the study has not ended, or the engine is away.
    """
    book = model.parent / LEDGER
    if not book.is_file():
        msg = f"--join: no {LEDGER} beside {model}. Evaluate the merged model in the folder of its run in the swarm."
        raise UsageError(msg)
    trained, study = released.load(model), seat.swarm.study
    counts, withheld = count(trained, model, files, study)
    for reason in withheld:
        tell(f"withheld: {reason}")
    genesis = seat.swarm.genesis()
    digest = bytes.fromhex(trained.digest)

    def choose(state: State) -> Evaluation | None:
        _refuse_stranger(state, digest, model)
        if not publish or (seat.identity.key, digest) in state.evaluations:
            tell("nothing new is published" if publish else "nothing is published, the log is only read")
            return None
        if not counts:
            msg = f"nothing to publish: {'; '.join(withheld)}. With --no-publish the others' figures can be read."
            raise CellsError(msg)
        tell(f"published: counts of {', '.join(sorted({key.partition('.')[0] for key in counts}))} task(s)")
        return Evaluation(state=digest, counts=dict(sorted(counts.items())))

    with identities.hold(seat.identity, genesis.digest), ledgers.opened(book) as ledger:
        state = asyncio.run(_read(seat, ledger, choose, wait_s, digest))
        kept = facts(ledger)
    published = published_for(state, digest)
    return _figures(state, digest, published, study, kept)


async def _read(
    seat: Seat, ledger: ledgers.Ledger, choose: Callable[[State], Evaluation | None], wait_s: float, digest: bytes
) -> State:
    genesis = seat.swarm.genesis()
    log = seat.open_log()
    try:
        word = Postscript(seat.identity, genesis, log, ledger)
        return await word.add(choose, wait_for=lambda state: not waiting(state, digest), wait_s=wait_s)
    finally:
        await log.close()


def count(model: TrainedModel, path: Path, files: Sequence[Path], study: Study) -> tuple[Counts, tuple[str, ...]]:
    """Return what this site publishes of its held-out donors, and what it withholds and why."""
    with ExitStack() as opened:
        inputs = [opened.enter_context(PreparedFile(file)) for file in files]
        for file in inputs:
            check_fit(model, path, file)
        run = run_facts(path)
        cohort = gather(
            inputs,
            cell_types=study.cell_types,
            conditions=study.conditions,
            trained_on=frozenset(run.get("train_donors", ())),
        )
        _refuse_others(cohort, run.get("train_donors", ()))
        refuse_trained_on(files, {path: study})
        counts: dict[str, tuple[int, ...]] = {}
        reasons: tuple[str, ...] = ()
        if model.has_cell_task and cohort.has_cell_types:
            cells = score_cells(model, cohort, lambda _: None)
            found, withheld = site_counts.count_cells(cells, study.floors, study.cell_types)
            counts, reasons = {**counts, **found}, reasons + withheld.reasons
        if model.has_patient_task and cohort.has_conditions:
            samples = score_samples(model, cohort, lambda _: None)
            found, withheld = site_counts.count_samples(cohort, samples.probabilities, study.floors)
            counts, reasons = {**counts, **found}, reasons + withheld.reasons
    return counts, reasons


def _refuse_others(cohort: Cohort, train_donors: Sequence[str]) -> None:
    own = {donor.partition("/")[0] for donor in train_donors}
    strange = sorted(set(cohort.sites) - own)
    if own and strange:
        msg = (
            f"--join publishes this site's own patients only ({', '.join(sorted(own))}), and the files hold donors of "
            f"{', '.join(strange)}: they would count twice. Give this site's files alone."
        )
        raise UsageError(msg)


def _refuse_stranger(state: State, digest: bytes, model: Path) -> None:
    if not state.finished:
        msg = "the study has not ended: there is no merged model yet. Wait for train to end, then evaluate."
        raise SwarmError(msg)
    if state.body is None or state.body.state != digest:
        msg = (
            f"{model}: its digest {digest.hex()[:16]}… is not that of the swarm's last block. Evaluate the "
            "merged.safetensors that this swarm's run wrote."
        )
        raise ModelError(msg)


def published_for(state: State, digest: bytes) -> dict[str, Counts]:
    """Return what each member published for a merged model: its name -> counts."""
    names = _names(state)
    return {
        names[author]: entry.payload.counts
        for (author, of), (_, entry) in state.evaluations.items()
        if of == digest and author in names and isinstance(entry.payload, Evaluation)
    }


def waiting(state: State, digest: bytes) -> tuple[str, ...]:
    """Return the members who have published nothing for a merged model, sorted."""
    return tuple(sorted(set(_names(state).values()) - published_for(state, digest).keys()))


def _names(state: State) -> dict[bytes, str]:
    return {standing.member.signing_key: standing.member.name for standing in state.roster.standings}


def _figures(
    state: State,
    digest: bytes,
    published: Mapping[str, Counts],
    study: Study,
    kept: LedgerFacts,
) -> SwarmFigures:
    parts = swarm_figures.parts(published, study)
    cell, patient = swarm_figures.figures(published, study)
    head = state.last
    return SwarmFigures(
        swarm=state.swarm.hex(),
        model_digest=digest.hex(),
        model_height=state.height - 1,
        head=head.digest.hex() if head else "",
        head_height=state.height - 1,
        sites=parts,
        waiting=waiting(state, digest),
        cell=cell,
        patient=patient,
        n_donors=sum(part.n_donors for part in parts),
        n_cells=sum(part.n_cells for part in parts),
        samples={c: sum(part.samples.get(c, 0) for part in parts) for c in study.conditions},
        confusion=swarm_figures.confusion(published, study),
        timeline=kept.timeline,
        trained=kept.trained,
    )
