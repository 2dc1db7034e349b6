"""Which rules of a study of strata are possible; and the least values of any rule's numbers."""

import math
import re

from swarmcell.errors import ConfigError
from swarmcell.model.study import StrataRule, Study

CONDITION = "condition"  # what is always tested, if a study names conditions
STRATA_MAX = 20  # chosen: each needs three samples, and runs of k-means


def check_strata(study: Study, rule: StrataRule) -> None:
    """Check the rules of a study of strata.

    Raises
    ------
    ConfigError
        If a stage, a number or a covariate is impossible, or composition has two sources.
    """
    if study.stages not in (("features",), ("features", "clusters")):
        msg = (
            f"[study] stages = {list(study.stages)}; a study of strata has ['features'], or ['features', 'clusters'] "
            "where cells are clustered over the swarm."
        )
        raise ConfigError(msg)
    check_least("[study.strata]", rule, k_max=2, starts=1, resamples=5, n_genes=1, components_max=1)
    check_least("[study.strata]", rule, nulls=19, permutations=19)  # the smallest p is then 0.05
    if rule.k_max > STRATA_MAX:
        msg = f"[study.strata] k_max = {rule.k_max}; at most {STRATA_MAX}."
        raise ConfigError(msg)
    if not 0 < rule.variance_share <= 1:
        msg = f"[study.strata] variance_share = {rule.variance_share}; expected a share above 0, at most 1."
        raise ConfigError(msg)
    _check_composition(study, rule)
    for name, categories in rule.covariates.items():
        if name == CONDITION or len(categories) == 1 or len(set(categories)) < len(categories):
            msg = (
                f"[study.strata.covariates] {name} = {list(categories)}; expected no category (a number) or two "
                f"and more, each once. {CONDITION!r} is read from the prepared files, and tested if [study] names "
                "conditions."
            )
            raise ConfigError(msg)
    if study.privacy.cell_digests:
        msg = "[study.privacy] cell_digests: a study of strata holds nobody out. Set it to false."
        raise ConfigError(msg)


def _check_composition(study: Study, rule: StrataRule) -> None:
    """Check that what the composition of a sample counts comes from one place."""
    if "clusters" in study.stages and (study.cell_types or rule.cell_model):
        msg = (
            "[study] stages has 'clusters', and cell_types or [study.strata] cell_model tells types too; composition "
            "counts one of them. Leave the others out."
        )
        raise ConfigError(msg)
    if rule.cell_model and not (re.fullmatch("[0-9a-f]{64}", rule.cell_model) and study.cell_types):
        msg = (
            f"[study.strata] cell_model = {rule.cell_model!r}: expected the digest of a model (64 hex digits; its card "
            "says it), and the types that it tells as [study] cell_types, in its order."
        )
        raise ConfigError(msg)
    if len(study.cell_types) == 1:
        msg = f"[study] cell_types = {list(study.cell_types)}: one type has no composition. Name all, or none."
        raise ConfigError(msg)


def check_least(table: str, rule: object, **least: float) -> None:
    """Check that numbers of a rule are finite and not below their least values.

    Raises
    ------
    ConfigError
        If one is; `table` says where it stands.
    """
    for key, value in least.items():
        if not value <= getattr(rule, key) < math.inf:
            msg = f"{table} {key} = {getattr(rule, key)}; expected a number, at least {value:g}."
            raise ConfigError(msg)
