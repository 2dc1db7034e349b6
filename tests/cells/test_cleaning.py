import numpy as np
import pytest

from swarmcell.cells.cleaning import CleaningRules, Scope, Step, clean_compensated, clean_recorded
from swarmcell.cells.events import Label
from swarmcell.cells.roles import role_of

RNG = np.random.default_rng(3)
N = 2000


def scope_of(labels: list[Label], technology: str = "flow", markers: tuple[int, ...] = ()) -> Scope:
    return Scope(tuple(labels), tuple(role_of(label) for label in labels), markers, technology)  # type: ignore[arg-type]


def cleaned(values: np.ndarray, scope: Scope, **rules: bool) -> tuple[np.ndarray, dict[str, Step]]:
    chosen = CleaningRules(**rules)
    keep, steps = clean_recorded(values, scope, chosen)
    steps += clean_compensated(values, keep, scope, chosen)
    return keep, {step.name: step for step in steps}


def test_events_that_are_not_finite_are_dropped_and_counted() -> None:
    values = np.ones((10, 2), np.float32)
    values[2, 0], values[3, 1], values[4, 1] = np.nan, np.inf, -np.inf
    keep, steps = cleaned(values, scope_of([Label("CD4"), Label("Time")], markers=(0,)))
    assert keep.tolist() == [True, True, False, False, False, True, True, True, True, True]
    assert (steps["finite"].n_in, steps["finite"].n_out) == (10, 7)
    assert np.isfinite(values).all()


def test_events_at_the_top_of_a_detector_are_dropped() -> None:
    values = RNG.uniform(0, 1000, (N, 2)).astype(np.float32)
    values[:5, 0], values[5:8, 1] = 1023, 1023
    keep, steps = cleaned(values, scope_of([Label("FSC-A", "", 1023), Label("FL1-A", "CD4", 1023)], markers=(1,)))
    assert not keep[:8].any()
    assert steps["margins"].n_in - steps["margins"].n_out == 8


def test_a_range_that_the_values_exceed_is_no_margin() -> None:
    values = RNG.uniform(0, 10_000, (N, 1)).astype(np.float32)
    keep, steps = cleaned(values, scope_of([Label("FL1-A", "CD4", 1023)], markers=(0,)))
    assert keep.all()
    assert "beyond $PnR: FL1-A" in steps["margins"].note


def test_doublets_by_area_over_height_are_dropped() -> None:
    height = RNG.uniform(50_000, 100_000, N)
    area = height * RNG.normal(1.0, 0.02, N)
    area[:50] *= 1.9
    keep, steps = cleaned(
        np.column_stack([area, height]).astype(np.float32), scope_of([Label("FSC-A"), Label("FSC-H")])
    )
    assert not keep[:50].any()
    assert keep[50:].mean() > 0.99
    assert steps["singlets"].n_in == N


def test_a_height_of_zero_is_no_singlet() -> None:
    values = np.column_stack([RNG.normal(100, 1, 100), np.full(100, 100.0)]).astype(np.float32)
    values[0, 1] = 0
    keep, _ = cleaned(values, scope_of([Label("FSC-A"), Label("FSC-H")]))
    assert not keep[0]
    assert keep[1:].all()


def test_mass_doublets_dead_cells_and_odd_pulses_are_dropped() -> None:
    labels = [
        Label(n, s) for n, s in (("Event_length", ""), ("Ir191Di", "DNA1"), ("Pt195Di", "Cisplatin"), ("Residual", ""))
    ]
    values = np.column_stack(
        [RNG.normal(30, 3, N), RNG.normal(800, 60, N), RNG.normal(20, 4, N), RNG.normal(50, 5, N)]
    ).astype(np.float32)
    values[0, 0], values[1, 1], values[2, 2], values[3, 3] = 90, 1800, 900, 300
    keep, steps = cleaned(values, scope_of(labels, "mass"))
    assert not keep[:4].any()
    assert keep.mean() > 0.99
    assert set(steps) == {"finite", "event_length", "dna", "gaussian", "viability"}


def test_a_low_viability_signal_is_never_dead() -> None:
    values = RNG.normal(1000, 50, (N, 1)).astype(np.float32)
    values[:10] = -500
    keep, _ = cleaned(values, scope_of([Label("APC-Cy7-A", "Viab")]))
    assert keep[:10].all()


@pytest.mark.parametrize("name", ["finite", "margins", "singlets", "viability"])
def test_a_step_that_is_switched_off_is_not_taken(name: str) -> None:
    _, steps = cleaned(np.ones((5, 1), np.float32), scope_of([Label("FSC-A")]), **{name: False})
    assert name not in steps


def test_a_step_without_its_channels_is_skipped_and_says_so() -> None:
    keep, steps = cleaned(np.ones((5, 1), np.float32), scope_of([Label("FL1-A", "CD4")], markers=(0,)))
    assert keep.all()
    assert steps["singlets"].note == "no FSC-A with FSC-H"
    assert steps["viability"].note == "no viability channel"


def test_channels_that_do_not_vary_drop_nothing() -> None:
    keep, steps = cleaned(
        np.full((50, 2), 7, np.float32), scope_of([Label("Event_length"), Label("Ir191Di", "DNA1")], "mass")
    )
    assert keep.all()
    assert steps["dna"].note == "its channels do not vary"
