"""The output folder and its report: whole or not at all, self-contained, readable by machine and by ear."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from swarmcell.errors import OutputError
from swarmcell.report import folder, style
from swarmcell.report.pictures import draw
from swarmcell.workflows.evaluate import evaluate

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Outline(HTMLParser):
    """Collects ids, references, and whether tags nest."""

    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.open, self.wrong, self.sources, self.headers = [], [], [], [], [], []
        self.captions = self.tables = 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        for key in ("href", "src", "xlink:href"):
            if key in attrs:
                (self.targets if attrs[key].startswith("#") else self.sources).append(attrs[key])
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "th":
            self.headers.append(attrs.get("scope"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def evaluation(study_files):
    return evaluate(study_files.merged, study_files.files, n_bootstrap=200)


@pytest.fixture(scope="module")
def made(evaluation, tmp_path_factory):
    target = tmp_path_factory.mktemp("made") / "evaluation"
    folder.write(evaluation, target)
    return target


@pytest.fixture(scope="module")
def outline(made):
    parser = Outline()
    parser.feed((made / "report.html").read_text(encoding="utf-8"))
    return parser


def test_a_folder_that_is_no_evaluation_is_never_replaced(evaluation, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no evaluation"):
        folder.write(evaluation, tmp_path, force=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_evaluation_is_replaced_by_force_only(evaluation, made, tmp_path):
    target = tmp_path / "evaluation"
    shutil.copytree(made, target)
    (target / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="--force"):
        folder.write(evaluation, target)
    folder.write(evaluation, target, force=True)
    assert not (target / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_a_failure_leaves_the_old_evaluation(evaluation, made, tmp_path, monkeypatch):
    target = tmp_path / "evaluation"
    shutil.copytree(made, target)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "_fill", full)
    with pytest.raises(OutputError, match="No space left"):
        folder.write(evaluation, target, force=True)
    assert (target / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_the_folder_holds_result_report_and_figures(made, evaluation):
    assert json.loads((made / "evaluation.json").read_text()) == json.loads(json.dumps(evaluation.to_json()))
    names = {path.stem for path in (made / "figures").glob("*.png")}
    assert names == {path.stem for path in (made / "figures").glob("*.svg")}
    assert {"confusion_matrix", "by_donor", "roc", "calibration", "patient_reliability", "overview"} <= names


def test_every_name_of_the_json_document_is_in_the_manual(evaluation):
    manual = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    section = manual.split("## evaluation.json")[1].split("\n## ")[0]
    document = evaluation.to_json()
    figures = [name for task in ("cell", "patient") for name in document[task]["models"][0]["figures"]]
    inner = [*document["cell"]["models"][0], *document["patient"]["models"][0], *document["portrait"]]
    missing = [name for name in {*document, *figures, *inner} - {"model"} if f"`{name}`" not in section]
    assert not missing


def test_the_report_needs_nothing_else_and_is_small(made, outline):
    text = (made / "report.html").read_text()
    assert not outline.sources
    assert not re.findall(r"https?://(?!www\.w3\.org)[^\s\"<]+", text)
    assert "url(http" not in text
    assert len(text) < 5_000_000


def test_the_report_is_well_formed(outline):
    assert not outline.wrong
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert {target[1:] for target in outline.targets} <= set(outline.ids)


def test_tables_have_captions_and_headers_with_scope(outline):
    assert outline.tables == outline.captions
    assert set(outline.headers) == {"col", "row"}


def test_every_figure_names_its_donors_and_has_an_alternative_text(evaluation):
    with style.theme():
        for picture in draw(evaluation).all:
            assert re.search(r"\d+ held-out donors, \d+ samples.*, [\d,]+ cells", picture.caption), picture.name
            assert len(picture.alt) > 30
            assert f'<title id="{picture.name}-name">' in style.inline_svg(picture)


def test_figures_as_files_carry_their_title_and_what_they_rest_on(made, evaluation):
    with style.theme():
        for picture in draw(evaluation).all:
            alone = (made / "figures" / f"{picture.name}.svg").read_text()
            page = style.inline_svg(picture)
            words = re.sub(r"\s+", " ", " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", alone)))
            assert "held-out donor" in words, picture.name
            assert picture.title.split(",")[0].split("'")[0] in words, picture.name
            assert picture.caption.split(".")[0] not in re.sub(r"<title.*?</title>", "", page)


def test_the_page_compares_the_model_with_each_other_one_in_words(made):
    text = (made / "report.html").read_text()
    row = re.search(r'<th scope="row">local</th>(.*?)</tr>', text).group(1)
    assert re.findall(r'<span class="said (?:good|wrong|even)">([a-z ]+)</span>', row) == [
        "equal",
        "no difference shown",
    ]
    assert "better than chance" in text


def test_figures_take_the_pages_colours(evaluation):
    with style.theme():
        for picture in draw(evaluation).all:
            left = set(re.findall(r"#[0-9a-f]{6}", style.inline_svg(picture)))
            assert not left, f"{picture.name} has colours of no role: {left}"


def test_hostile_names_are_escaped(evaluation):
    from dataclasses import replace

    from swarmcell.report.page import render

    hostile = "<script>alert(1)</script>"
    cell = replace(evaluation.cell, classes=(hostile, *evaluation.cell.classes[1:]))
    with style.theme():
        bad = replace(evaluation, study=hostile, cell=cell)
        assert hostile not in render(bad, draw(bad))


def test_an_undefined_figure_is_called_so_in_the_report(study_files, make_cells, tmp_path):
    from swarmcell.cells import schema

    adata = make_cells("site-a")
    adata = schema.plain(adata[(adata.obs["condition"] == "ill").to_numpy()].copy())
    schema.write_prepared(adata, tmp_path / "ill.h5ad")
    report = folder.write(evaluate(study_files.merged, [tmp_path / "ill.h5ad"], n_bootstrap=100), tmp_path / "e")
    text = report.read_text()
    assert "undefined" in text
    assert ">nan<" not in text.lower()
    assert not (tmp_path / "e" / "figures" / "roc.png").exists()


@pytest.mark.parametrize("held_out", [1, 2])
def test_few_donors_still_make_a_report(study_files, make_cells, tmp_path, held_out):
    from swarmcell.cells import schema

    schema.write_prepared(make_cells("site-a", held_out=held_out), tmp_path / "few.h5ad")
    result = evaluate(study_files.merged, [tmp_path / "few.h5ad"], n_bootstrap=100)
    text = folder.write(result, tmp_path / "e").read_text()
    once = text.count("No interval: one donor, whose cells are not independent.")
    assert once == (2 if held_out == 1 else 0), "the reason stands once below each table, not in every cell of it"
    assert len(result.caveats) == len(set(result.caveats))


def test_light_and_dark_text_has_contrast():
    css = (folder.Path(style.__file__).parent / "templates" / "report.css").read_text()
    blocks = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in css.split("@media")[:2]]
    for colours in blocks:
        for role in ("ink", "muted", "accent", "good", "wrong"):
            for ground in ("paper", "page"):
                assert contrast(colours[role], colours[ground]) >= 4.5
        for number in range(1, 7):
            assert contrast(colours[f"model-{number}"], colours["paper"]) >= 3.0


def contrast(one, other):
    bright = sorted((luminance(one), luminance(other)))
    return (bright[1] + 0.05) / (bright[0] + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
