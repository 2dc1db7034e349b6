"""`audit privacy`: whether the cells that a model was trained on can be told from cells that it never saw.

Rules: the attacker has the model, and a cell with its label; members are this site's training donors, the others its
held-out donors. Shadow models are trained here, by the rules of the model that is attacked, on random halves of all
these donors. What a protection does is measured, not promised: the same attacks on models that are trained here on this
site's training donors alone, without it and with it.

References
----------
Yeom et al. 2018, CSF, arXiv:1709.01604 (loss threshold); Carlini et al. 2022, arXiv:2112.03570 (LiRA).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swarmcell.errors import ModelError, UsageError
from swarmcell.metrics.membership import FALSE_SHARE, Separation, separation
from swarmcell.model import released
from swarmcell.model.released import TrainedModel
from swarmcell.model.study import NOISED, DifferentialPrivacy, FeatureRule, PrivacyRule, Study
from swarmcell.privacy import accountant
from swarmcell.workflows.evaluate import silent
from swarmcell.workflows.floor_words import terms
from swarmcell.workflows.membership_attack import (
    Cells,
    Effort,
    Floats,
    Observer,
    alone_study,
    by_shadows,
    learnt,
    read,
    scored,
    scores_of,
)
from swarmcell.workflows.training_input import refuse_repeated

LOSS, SHADOWS = "loss threshold", "shadow models"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What one attack achieved."""

    name: str
    found: Separation
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "attack": self.name,
            "auroc": self.found.auroc.to_json(),
            "caught": self.found.caught.to_json(),
            "false_share": FALSE_SHARE,
            "n_members": self.found.n_members,
            "n_others": self.found.n_others,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the attacks on one model achieved.

    Attributes
    ----------
    name, meaning
        What it is called, and what it is, in words.
    digest
        Of the model.
    attacks
        Each on the same cells.
    right_trained, right_held_out
        Share of trained and of held-out cells whose type it tells: what a protection costs.
    """

    name: str
    meaning: str
    digest: str
    attacks: tuple[Attack, ...]
    right_trained: float
    right_held_out: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        rest = {key: getattr(self, key) for key in ("name", "meaning", "digest", "right_trained", "right_held_out")}
        return {**rest, "attacks": [attack.to_json() for attack in self.attacks]}


@dataclass(frozen=True, kw_only=True)
class PrivacyAudit:
    """What the attacks achieved: on the model that was asked about, first, and on those beside it.

    Attributes
    ----------
    terms
        The floors under which the study's sites published, and whether they are lowered.
    """

    study: str
    terms: str
    n_train_donors: int
    n_held_out_donors: int
    models: tuple[Audited, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        rest = {key: getattr(self, key) for key in ("study", "terms", "n_train_donors", "n_held_out_donors")}
        return {**rest, "models": [model.to_json() for model in self.models]}


@dataclass(frozen=True, kw_only=True)
class Protection:
    """A change of the study's rules that is to protect, as `KEY=VALUE`: `l2=1`, or `epsilon=8` of every cell."""

    key: str
    value: float

    @property
    def name(self) -> str:
        """As it was given."""
        return f"{self.key}={self.value:g}"

    def applied(self, study: Study) -> Study:
        """Return the study with this protection."""
        if self.key == "l2":
            return replace(study, cell=replace(study.cell, l2=self.value))
        cell = replace(study.cell, merge=NOISED, rounds_max=0)
        private = PrivacyRule(differential_privacy=DifferentialPrivacy(unit="cell", epsilon=self.value))
        return accountant.resolved(replace(study, cell=cell, features=FeatureRule(), privacy=private))


def protection(text: str) -> Protection:
    """Read a protection from the command line.

    Raises
    ------
    UsageError
        If it is none.
    """
    key, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if key not in PROTECTIONS or not 0 < number < math.inf:
        msg = f"--protect {text}: expected {' or '.join(f'{key}=NUMBER' for key in PROTECTIONS)}, such as l2=1."
        raise UsageError(msg)
    return Protection(key=key, value=number)


PROTECTIONS = ("l2", "epsilon")


def audit_privacy(
    model: Path,
    prepared: Sequence[Path],
    *,
    n_shadows: int,
    n_resamples: int,
    seed: int,
    against: Mapping[str, Path] | None = None,
    protections: Sequence[Protection] = (),
    observer: Observer = silent,
) -> PrivacyAudit:
    """Attack a model with this site's own cells.

    Parameters
    ----------
    model
        Model file with a cell task.
    prepared
        Prepared files that hold training and held-out donors.
    n_shadows
        Models to train on random halves of the donors; 0 leaves that attack out.
    n_resamples
        Resamples of donors for the intervals.
    against
        Name -> model file to attack in the same way.
    protections
        For each a model is trained here on this site's training donors, and one more without any.
    observer
        Called with `("total", {"n": n})` and `("progress", {"n": n})`: models to run, models done.

    Raises
    ------
    UsageError
        If a file is given twice.
    ModelError
        If a model has no cell task, is corrupt, or does not fit the cells.
    CellsError
        If either side has no donor with labelled cells.
    """
    refuse_repeated(prepared)
    given = {"this model": model, **(against or {})}
    targets = {name: _opened(path) for name, path in given.items()}
    n_trained = len(protections) + bool(protections)
    observer("total", {"n": len(targets) * (1 + n_shadows) + n_trained * (2 + n_shadows)})
    effort = Effort(n_shadows, n_resamples, np.random.default_rng(seed), observer)
    found, cells = [], None
    for name, target in targets.items():
        score, cells = scored(target, given[name], prepared)
        found.append(_audited(name, _meaning(target), target, score, cells, prepared, effort))
    assert cells is not None  # noqa: S101 (there is at least the model that was asked about)
    first = targets["this model"]
    found += _protected(first.study, prepared, protections, cells, effort) if protections else []
    return PrivacyAudit(
        study=first.study.name,
        terms=terms(first.study) if first.card.get("trained") == "swarm" else "",
        n_train_donors=len(np.unique(cells.donor[cells.is_member])),
        n_held_out_donors=len(np.unique(cells.donor[~cells.is_member])),
        models=tuple(found),
    )


def _opened(path: Path) -> TrainedModel:
    target = released.load(path)
    if not target.has_cell_task:
        msg = f"{path}: has no cell task, and the attacks ask about single cells. Audit a model of cell types."
        raise ModelError(msg)
    return target


def _meaning(target: TrainedModel) -> str:
    trained, sites = target.card.get("trained", ""), len(target.card.get("sites", ()))
    if trained == "swarm":
        return f"merged over {sites} sites: what members and readers of the model see"
    return "trained by one site alone: what its own updates come to" if trained == "local" else "as it was given"


def _audited(
    name: str,
    meaning: str,
    target: TrainedModel,
    score: Floats,
    cells: Cells,
    prepared: Sequence[Path],
    effort: Effort,
) -> Audited:
    effort.observer("progress", {"n": 1})
    scores = {LOSS: score}
    if effort.n_shadows:
        scores[SHADOWS] = by_shadows(target.study, prepared, score, cells, effort)
    right = score > 0
    return Audited(
        name=name,
        meaning=meaning,
        digest=target.digest,
        attacks=tuple(_attack(what, values, cells, effort.n_resamples, effort.rng) for what, values in scores.items()),
        right_trained=float(right[cells.is_member].mean()),
        right_held_out=float(right[~cells.is_member].mean()),
    )


def _protected(
    study: Study, prepared: Sequence[Path], protections: Sequence[Protection], cells: Cells, effort: Effort
) -> list[Audited]:
    """Train this site's training donors alone by the study's rules, without and with each protection; attack each."""
    alone = alone_study(study)
    plans = [("unprotected", alone), *((one.name, one.applied(alone)) for one in protections)]
    found = []
    for name, rules in plans:
        sources = read(prepared)
        made = learnt(rules, sources, effort.rng.bytes(32))
        effort.observer("progress", {"n": 1})
        meaning = f"trained here on this site's training donors alone, {name}"
        found.append(_audited(name, meaning, made, scores_of(made, sources), cells, prepared, effort))
    return found


def _attack(name: str, score: Floats, cells: Cells, n_resamples: int, rng: np.random.Generator) -> Attack:
    found = separation(score, cells.is_member, cells.donor, n_resamples=n_resamples, rng=rng)
    return Attack(name=name, found=found, verdict=_verdict(found))


def _verdict(found: Separation) -> str:
    auroc = found.auroc
    if not auroc.has_interval or auroc.low is None:
        return f"cannot be judged: {auroc.note}"
    if auroc.low > 0.5 or (found.caught.low or 0.0) > FALSE_SHARE:
        return "trained cells can be told from others better than by guessing"
    return "trained cells cannot be told from others better than by guessing"
