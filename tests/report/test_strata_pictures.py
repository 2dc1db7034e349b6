"""The figures of strata can be read: many types leave room for their bars, and any number of components has a map."""

import pytest

from swarmcell.report import strata_pictures, style


def found(*, n_types: int, n_sites: int, components: int, k: int = 2) -> dict:
    """Return what `strata_pictures.draw` reads of a result."""
    samples = [
        {"site": f"site-{i % n_sites}", "stratum": i % k + 1, "component_1": float(i), "component_2": float(-i)}
        for i in range(12)
    ]
    strata = [
        {"stratum": i + 1, "composition": {f"cluster {t} (CD3, CD4)": 1 / n_types for t in range(n_types)}}
        | {"markers": []}
        for i in range(k)
    ]
    tried = [{"k": n, "stability": 0.9, "within": 0.5, "within_null": 0.6} for n in (2, 3)]
    shares = {"site_share": 0.1, "site_share_by_chance": 0.1, "components_share": 0.8}
    return {"k": k, "n_sites": n_sites, "components": components, "samples": samples} | {
        "strata": strata,
        "tried": tried,
        **shares,
    }


def drawn(**about: int) -> dict:
    with style.theme():
        pictures = strata_pictures.draw(found(**about))
        for picture in pictures:
            style.settle(picture)
    return {picture.name: picture.figure for picture in pictures}


@pytest.mark.parametrize("n_types", [3, 15, 40])
def test_bars_keep_their_height_under_the_legend_of_many_types(n_types: int) -> None:
    figure = drawn(n_types=n_types, n_sites=2, components=2)["composition"]
    inches = figure.axes[0].get_position().height * figure.get_figheight()
    assert inches / 2 > 0.2, "of each of two strata"


@pytest.mark.parametrize(("n_sites", "n_labels"), [(1, 2), (3, 5), (10, 2)])
@pytest.mark.parametrize("components", [1, 4])
def test_the_map_is_drawn_for_any_number_of_components_and_its_legend_stays_short(
    n_sites: int, n_labels: int, components: int
) -> None:
    figure = drawn(n_types=3, n_sites=n_sites, components=components)["map"]
    assert len(figure.legends[0].get_texts()) == n_labels
    axes = figure.axes[0]
    assert axes.get_position().height * figure.get_figheight() > (0.3 * n_sites if components == 1 else 2.5)
    if components == 1:
        assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"site-{i}" for i in range(n_sites)]
