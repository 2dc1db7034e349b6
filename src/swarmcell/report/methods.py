"""The methods paragraph: what was done, in words that can be pasted into a paper."""

from collections.abc import Iterator, Mapping
from typing import Any

from swarmcell.report.names import counted
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures
from swarmcell.workflows.evaluation.values import Evaluation, ModelFacts

FEATURES = {
    "all": "all {n} features of the study's universe",
    "top_variance": "the {n} features with the largest variance over all sites' training cells",
    "seurat_v3": "the {n} highly variable genes of all sites' training cells (seurat_v3; Stuart et al. 2019)",
    "seurat_v3_by_site": "the {n} genes that the most sites rank among their highly variable ones (seurat_v3; Stuart "
    "et al. 2019)",
}
CLASSIFIERS = {
    "linear": "multinomial logistic regression with balanced classes",
    "mlp": "a perceptron of one hidden layer",
    "attention": "gated attention over the cells (Ilse et al. 2018)",
    "top_k": "the mean over the tenth of the cells that speak most",
}
REFERENCES = (
    "Warnat-Herresthal S, et al. Swarm Learning for decentralized and confidential clinical machine learning. "
    "Nature 594, 265-270 (2021). doi:10.1038/s41586-021-03583-3",
    "Efron B. Better bootstrap confidence intervals. J Am Stat Assoc 82, 171-185 (1987).",
    "Hesterberg TC. What teachers should know about the bootstrap. The American Statistician 69, 371-386 (2015).",
    "Cochran WG. Sampling Techniques, 3rd edition, section 6.3. Wiley (1977).",
    "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep networks. ICML (2017). arXiv:1703.01365",
    "Stuart T, et al. Comprehensive integration of single-cell data. Cell 177, 1888-1902 (2019).",
    "Ilse M, Tomczak JM, Welling M. Attention-based deep multiple instance learning. ICML (2018). arXiv:1802.04712",
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
    yield from _learning(first)
    if evaluation.cell:
        yield (
            "Cell types were compared by accuracy, balanced accuracy (mean recall over types present) and macro-F1; "
            "calibration by the expected calibration error over ten bins of equal width (Guo et al. 2017)."
        )
    if evaluation.patient:
        yield _patient_sentence(evaluation)
    yield (
        "95 % intervals are bias-corrected and accelerated (Efron 1987), expanded for few donors (Hesterberg 2015), of "
        f"{settings.n_bootstrap:,} bootstrap resamples of donors, each bringing all its cells and samples"
        + (
            ", within groups of equal condition for the patient task; where perfect separation left no width, score "
            "intervals with donors as trials were used (AUROC: Newcombe 2006, others: Wilson)."
            if evaluation.patient
            else "."
        )
        + " Those of calibration errors are by the delta method over donors (Cochran 1977)."
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


def _learning(first: ModelFacts) -> Iterator[str]:
    """Say how the model that was asked for was learnt: features, scaling, classifiers, merges, temperature."""
    if not first.rules:
        return
    rule = first.rules["features"]
    chosen = FEATURES[rule["rule"]].format(n=first.n_features)
    universe = first.card.get("universe") or {}
    transform = f" after {_transform(universe)}" if universe.get("transform") else ""
    by = "of its site's own cells, then of all training cells" if rule.get("scaling") == "site" else "of training cells"
    yield f"The {first.name} model reads {chosen}{transform}, scaled by mean and standard deviation {by}."
    fits = [
        f"{what} by {CLASSIFIERS[fit['model']]}, {_merged(fit['merge'])}"
        for what, stage in (("cell types", "cell"), ("conditions", "patient"))
        if (fit := first.rules.get(stage)) is not None
    ]
    yield f"It tells {' and '.join(fits)}."
    fitted = [f"{c['temperature']:.2f} ({stage})" for stage, c in first.calibration.items() if c.get("n")]
    if fitted:
        yield f"Probabilities have temperatures fitted on inner-validation donors: {', '.join(fitted)}."


def _merged(name: str) -> str:
    return "fitted exactly by sums over sites" if name == "exact-sum" else f"merged over sites by {name}"


def _transform(universe: Mapping[str, Any]) -> str:
    if universe["transform"] == "log1p_cp10k":
        return "log1p of counts per 10,000"
    cofactor = universe.get("cofactor")
    return f"{universe['transform']}" + (f" with cofactor {cofactor:g}" if cofactor is not None else "")


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
        "accuracy, sensitivity at 90 % specificity, the Brier score, and the expected calibration error over ten bins."
    )
