import flowutils.transforms
import numpy as np
import pytest

from swarmcell.cells.transforms import Logicle, Transform, apply, named
from swarmcell.errors import PanelError


@pytest.mark.parametrize(
    ("name", "cofactor"), [("asinh", 5.0), ("arcsinh", None), ("logicle(1,2)", None), ("logicle(a)", None)]
)
def test_a_transform_that_is_not_known_is_refused(name: str, cofactor: float | None) -> None:
    with pytest.raises(PanelError, match="transform"):
        named(name, cofactor)


@pytest.mark.parametrize(
    "numbers", ["0,0.5,4.5,0", "262144,3,4.5,0", "262144,0.5,-1,0", "nan,0.5,4.5,0", "1,0.5,4.5,4"]
)
def test_a_logicle_scale_that_does_not_exist_is_refused(numbers: str) -> None:
    with pytest.raises(PanelError, match="is no scale"):
        named(f"logicle({numbers})", None)
    with pytest.raises(ValueError, match="is no scale"):
        Logicle(t=-1)


@pytest.mark.parametrize(
    "transform", [Transform("arcsinh", 5.0), Transform("none"), Transform("logicle", logicle=Logicle(w=0.75, m=5))]
)
def test_a_panel_names_a_transform_with_its_parameters(transform: Transform) -> None:
    assert named(transform.name, transform.cofactor) == transform


def test_arcsinh_divides_by_its_cofactor() -> None:
    values = np.array([[0.0, -5.0, 5.0]], np.float32)
    apply(values, Transform("arcsinh", 5.0))
    np.testing.assert_allclose(values, np.arcsinh([[0, -1, 1]]), rtol=1e-6)


def test_no_transform_changes_nothing() -> None:
    values = np.array([[1.5, -2]], np.float32)
    apply(values, Transform("none"))
    np.testing.assert_array_equal(values, np.array([[1.5, -2]], np.float32))


def test_logicle_is_flowutils_logicle_at_fixed_parameters() -> None:
    values = np.random.default_rng(0).normal(1000, 5000, (200, 3)).astype(np.float32)
    expected = flowutils.transforms.logicle(values.astype(float), [0, 1, 2], t=262144, m=4.5, w=0.5, a=0)
    apply(values, Transform("logicle", logicle=Logicle()))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_one_events_value_does_not_depend_on_the_others() -> None:
    values = np.random.default_rng(0).normal(1000, 5000, (200, 2)).astype(np.float32)
    alone = values[:1].copy()
    for table in (values, alone):
        apply(table, Transform("logicle", logicle=Logicle()))
    np.testing.assert_array_equal(values[:1], alone)
