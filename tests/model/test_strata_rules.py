"""Impossible rules of a study of strata are refused when the swarm is created, in words that name them."""

from dataclasses import replace

import pytest

from swarmcell.errors import ConfigError
from swarmcell.model.stages import check_numbers
from swarmcell.model.study import PrivacyRule, StrataRule, Study

RULE = StrataRule()
STUDY = Study(name="s", modality="rna", stages=("features",), cell_types=("B", "T"), strata=RULE)
LABELLED = {"stages": ("features", "clusters")}


def test_the_defaults_are_possible() -> None:
    check_numbers(STUDY)
    check_numbers(replace(STUDY, cell_types=(), **LABELLED))
    check_numbers(replace(STUDY, strata=replace(RULE, cell_model="0f" * 32, covariates={"age": (), "sex": ("f", "m")})))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k_max": 1}, "k_max = 1; expected a number, at least 2"),
        ({"k_max": 21}, "k_max = 21; at most 20"),
        ({"starts": 0}, "starts"),
        ({"resamples": 4}, "resamples"),
        ({"nulls": 18}, "nulls"),
        ({"permutations": 0}, "permutations"),
        ({"n_genes": 0}, "n_genes"),
        ({"components_max": 0}, "components_max"),
        ({"variance_share": 1.1}, "variance_share = 1.1"),
        ({"variance_share": float("nan")}, "variance_share = nan"),
        ({"cell_model": "merged.safetensors"}, "expected the digest of a model"),
        ({"covariates": {"condition": ()}}, "'condition' is read from the prepared files"),
        ({"covariates": {"sex": ("f",)}}, "two and more, each once"),
        ({"covariates": {"sex": ("f", "f")}}, "two and more, each once"),
    ],
    ids=repr,
)
def test_an_impossible_rule_is_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_numbers(replace(STUDY, strata=replace(RULE, **change)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stages": ()}, "a study of strata has"),
        ({"stages": ("features", "cell")}, "a study of strata has"),
        (LABELLED, "composition counts one of them"),
        ({"cell_types": ("B",)}, "one type has no composition"),
        ({"cell_types": (), "strata": replace(RULE, cell_model="0f" * 32)}, "and the types that it tells"),
        ({"privacy": PrivacyRule(cell_digests=True)}, "holds nobody out"),
    ],
    ids=repr,
)
def test_an_impossible_study_of_strata_is_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_numbers(replace(STUDY, **change))
