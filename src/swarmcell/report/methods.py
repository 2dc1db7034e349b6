"""The methods paragraph: what was done, in words that can be pasted into a paper."""

from collections.abc import Iterator

from swarmcell.report.names import counted
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures
from swarmcell.workflows.evaluation.values import Evaluation

REFERENCES = (
    "Warnat-Herresthal S, et al. Swarm Learning for decentralized and confidential clinical machine learning. "
    "Nature 594, 265-270 (2021). doi:10.1038/s41586-021-03583-3",
    "Hesterberg TC. What teachers should know about the bootstrap. The American Statistician 69, 371-386 (2015).",
    "Cochran WG. Sampling Techniques, 3rd edition, section 6.3. Wiley (1977).",
    "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep networks. ICML (2017). arXiv:1703.01365",
    "Guo C, et al. On calibration of modern neural networks. ICML (2017). arXiv:1706.04599",
    "Newcombe RG. Confidence intervals for an effect size measure based on the Mann-Whitney statistic. "
    "Statistics in Medicine 25, 559-573 (2006).",
)


def methods(evaluation: Evaluation) -> str:
    """Return the methods paragraph."""
    return " ".join(_sentences(evaluation))


def _sentences(evaluation: Evaluation) -> Iterator[str]:
    cohort, settings, first = evaluation.cohort, evaluation.settings, evaluation.models[0]
    kind = "single-cell RNA sequencing" if evaluation.modality == "rna" else "cytometry"
    names = ", ".join(facts.name for facts in evaluation.models)
    yield (
        f"Models ({names}) of the study '{evaluation.study}' were evaluated on {kind} of "
        f"{counted(cohort.n_cells, 'cell')} from {counted(cohort.n_samples, 'sample')} of "
        f"{counted(cohort.n_donors, 'donor')} at {counted(len(cohort.sites), 'site')}. All of these donors had been "
        "held out from training; splits were by donor."
    )
    if evaluation.cell:
        yield (
            "Cell types were compared by accuracy, balanced accuracy (mean recall over types present) and macro-F1; "
            "calibration by the expected calibration error over ten bins of equal width (Guo et al. 2017)."
        )
    if evaluation.patient:
        yield _patient_sentence(evaluation)
    yield (
        f"95 % intervals are expanded percentile intervals (Hesterberg 2015) of {settings.n_bootstrap:,} bootstrap "
        "resamples of donors, each bringing all its cells and samples"
        + (
            ", within groups of equal condition for the patient task; where perfect separation left no width, score "
            "intervals with donors as trials were used (AUROC: Newcombe 2006, others: Wilson)."
            if evaluation.patient
            else "."
        )
    )
    yield (
        "Differences between models are paired, on the same resamples. Chance was tested by permutation "
        f"({settings.n_permutations:,} arrangements, or all where there are fewer): cell types within donors, "
        "conditions between donors, or within donors that have several."
    )
    if evaluation.swarm is not None:
        yield _swarm_sentence(evaluation.swarm)
    versions = ", ".join(f"{name} {number}" for name, number in evaluation.versions.items())
    yield (
        f"Software: {versions}. Model digest {first.digest[:16]}, universe {first.universe_sha256[:16]}, "
        f"seed {settings.seed}."
    )


def _swarm_sentence(swarm: SwarmFigures) -> str:
    return (
        f"Swarm-wide figures add up counts that {counted(len(swarm.sites), 'member')} published for the merged model "
        f"(block {swarm.model_height}, ledger head {swarm.head[:16]}), with intervals by the delta method over donors "
        "(Cochran 1977) and score intervals for the patient task."
    )


def _patient_sentence(evaluation: Evaluation) -> str:
    patient = evaluation.patient
    if patient is None or len(patient.conditions) == 2:
        versus = f"with {patient.positive} as the positive condition" if patient else ""
    else:
        versus = "one condition against the rest, averaged over conditions"
    return (
        f"Samples were classified by condition, {versus}: area under the ROC curve, average precision, balanced "
        "accuracy, sensitivity at 90 % specificity, and the Brier score."
    )
