"""What figures are called in front of people, and how numbers are written."""

from collections.abc import Mapping

from swarmcell.metrics.estimate import Estimate

LABELS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "expected_calibration_error": "Calibration error (ECE)",
    "expected_calibration_error_before_temperature": "ECE before temperature",
    "share_not_called_unknown": "Share not called unknown",
    "accuracy_of_those_not_called_unknown": "Accuracy of those",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity_at_0.90_specificity": "Sensitivity at 90 % specificity",
    "brier": "Brier score",
}
ERROR = "expected_calibration_error"
BEFORE = "expected_calibration_error_before_temperature"
SMALLER_IS_BETTER = frozenset({ERROR, BEFORE, "brier"})
BESIDE = frozenset(
    {BEFORE, "share_not_called_unknown", "accuracy_of_those_not_called_unknown"}
)  # no model is judged by


def label(figure: str) -> str:
    """Return a figure's name for people; one where smaller is better says so."""
    return LABELS.get(figure, figure) + (" ↓" if figure in SMALLER_IS_BETTER else "")


def value(found: Estimate, *, signed: bool = False) -> str:
    """Return the figure alone: `0.83`, or `undefined`."""
    if found.value is None:
        return "undefined"
    return f"{found.value:+z.2f}" if signed else f"{found.value:.2f}"


def interval(found: Estimate, *, signed: bool = False) -> str:
    """Return the interval alone: `0.70 to 0.93`; empty if there is none."""
    if found.low is None or found.high is None:
        return ""
    return f"{found.low:+z.2f} to {found.high:+z.2f}" if signed else f"{found.low:.2f} to {found.high:.2f}"


def with_interval(found: Estimate) -> str:
    """Return the figure, and its interval behind a comma if it has one: `0.83, 0.70 to 0.93`."""
    return f"{value(found)}, {interval(found)}" if interval(found) else value(found)


def calibration_errors(figures: Mapping[str, Estimate]) -> str:
    """Say the calibration error before and after temperature, each with its interval."""
    said = f"Expected calibration error {with_interval(figures[ERROR])}"
    before = figures.get(BEFORE)
    return f"{said} (before temperature {with_interval(before)})." if before is not None else f"{said}."


def rests_on(n_donors: int, n_samples: int, n_cells: int, *, samples: str = "") -> str:
    """Say what a figure rests on: `4 held-out donors, 4 samples (2 ill, 2 healthy), 240 cells`."""
    said = counted(n_samples, "sample") + (f" ({samples})" if samples else "")
    return f"{counted(n_donors, 'held-out donor')}, {said}, {counted(n_cells, 'cell')}"


def counted(n: int, unit: str) -> str:
    """Return a number with its unit: `1 donor`, `1,204 cells`."""
    return f"{n:,} {unit}" + ("" if n == 1 else "s")
