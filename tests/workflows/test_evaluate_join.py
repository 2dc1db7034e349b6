"""Counts in the log: three real peers train and publish, and all hold the same figures beside the model's digest."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import quiet_training
from rich.console import Console
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmConfig, SwarmRules
from swarmcell.errors import CellsError, ModelError, SwarmError, UsageError
from swarmcell.metrics import cell
from swarmcell.model.study import FitRule, Floors, Study
from swarmcell.node import identity
from swarmcell.node.identity import Identity
from swarmcell.report import evaluation_table, style
from swarmcell.report.overview_pictures import overview
from swarmcell.report.page import render
from swarmcell.report.pictures import Pictures
from swarmcell.report.swarm_pictures import timeline
from swarmcell.swarm.entries import NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.payloads import Evaluation
from swarmcell.swarm.state import State
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluate_join import across_the_swarm
from swarmcell.workflows.evaluation import site_counts
from swarmcell.workflows.evaluation.model_card import model_card
from swarmcell.workflows.evaluation.values import plain
from swarmcell.workflows.join import take_seat
from swarmcell.workflows.swarm.published import published
from swarmcell.workflows.swarm.published_contents import contents
from swarmcell.workflows.swarm.verify_run import verify_swarm

SITES = ("site-a", "site-b", "site-c")
HELD = {"site-a": 4, "site-b": 4, "site-c": 1}  # one donor is below the floor


@pytest.fixture(scope="module")
def swarm(make_cells, tmp_path_factory):
    """A finished swarm of three sites: its folder. Nobody has published yet."""
    folder = tmp_path_factory.mktemp("swarm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        for site in SITES:
            schema.write_prepared(make_cells(site, n_cells=30, held_out=HELD[site]), folder / f"{site}.h5ad")
        found(folder, make_cells("site-a"))
        with ThreadPoolExecutor(len(SITES)) as threads:
            list(threads.map(lambda site: trained(folder, site), SITES))
        yield folder


def found(folder, cells):
    rule = FitRule(rounds_max=2, batch_rows=64)
    study = Study(
        name="trial",
        modality="rna",
        cell_types=("B", "NK", "T"),
        conditions=("ill", "healthy"),
        universe_sha256=str(cells.uns["swarmcell"]["universe_sha256"]),
        cell=rule,
        patient=replace(rule, l2=1e-2),
        floors=Floors(donors=2, cells=10),
    )
    cards = [identity.create(site).card for site in SITES]
    made = swarm_file.create(SwarmConfig(study=study, swarm=SwarmRules()), cards)
    (folder / "swarm.toml").write_bytes(swarm_file.dump(made))


def trained(folder, site):
    quiet_training.trained(folder, site, seat(folder, site))


def seat(folder, site):
    return take_seat(folder / "swarm.toml", identity=site)


def joined(folder, site, **options):
    told = []
    model = folder / "runs" / site / "merged.safetensors"
    files = options.pop("files", [folder / f"{site}.h5ad"])
    return across_the_swarm(model, files, seat=seat(folder, site), tell=told.append, **options), told


def mine_alone(folder):
    return evaluate(folder / "runs" / "site-a" / "merged.safetensors", [folder / "site-a.h5ad"], n_bootstrap=20)


def test_peers_publish_counts_and_all_compute_the_same_figures(swarm):
    first, told = joined(swarm, "site-a")
    assert told[-1] == "published: counts of cell, patient task(s)"
    assert first.waiting == ("site-b", "site-c")
    with pytest.raises(CellsError, match=r"nothing to publish.*1 held-out donor\(s\), below the floor of 2"):
        joined(swarm, "site-c")
    second, _ = joined(swarm, "site-b")
    again, told = joined(swarm, "site-a")
    assert "nothing new is published" in told
    third, _ = joined(swarm, "site-c", publish=False)
    assert json.dumps(plain(second)) == json.dumps(plain(again)) == json.dumps(plain(third))
    assert third.waiting == ("site-c",)
    assert [part.n_donors for part in third.sites] == [4, 4]
    assert all(third.cell[name].has_interval for name in ("accuracy", "balanced_accuracy", "macro_f1"))

    assert any("study's rules have no cell_digests" in caveat for caveat in mine_alone(swarm).caveats)
    both = evaluate(
        swarm / "runs" / "site-a" / "merged.safetensors", [swarm / "site-a.h5ad", swarm / "site-b.h5ad"], n_bootstrap=50
    )
    mine = both.cell.models[0]
    assert third.confusion == mine.confusion
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "expected_calibration_error"):
        assert third.cell[name].value == pytest.approx(mine.figures[name].value, abs=1e-6)
    assert third.patient["auroc"].value == pytest.approx(both.patient.models[0].figures["auroc"].value, abs=0.13)

    assert third.model_digest == both.models[0].digest
    assert third.timeline[-1].height == third.head_height
    assert {trained.site: trained.n_donors for trained in third.trained} == {"site-a": 4, "site-b": 4, "site-c": 7}
    checked = verify_swarm(swarm / "swarm.toml", identity="site-a")
    assert checked.faults == []
    assert checked.evaluations == 2


def test_a_model_of_another_run_is_refused(swarm, study_files, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(swarm / "runs" / "site-a", folder)
    shutil.copy(study_files.merged, folder / "merged.safetensors")
    with pytest.raises(ModelError, match="not that of the swarm's last block"):
        across_the_swarm(folder / "merged.safetensors", [swarm / "site-a.h5ad"], seat=seat(swarm, "site-a"))


def test_other_sites_donors_and_a_model_without_a_ledger_are_refused(swarm, study_files):
    with pytest.raises(UsageError, match="own patients only"):
        joined(swarm, "site-a", files=[swarm / "site-a.h5ad", swarm / "site-b.h5ad"])
    with pytest.raises(UsageError, match=r"no ledger\.sqlite"):
        across_the_swarm(study_files.merged, [study_files.files[0]], seat=seat(swarm, "site-a"))


def test_the_report_and_the_card_show_the_swarm_and_its_timeline(swarm):
    result = evaluate(swarm / "runs" / "site-b" / "merged.safetensors", [swarm / "site-b.h5ad"], n_bootstrap=50)
    figures, _ = joined(swarm, "site-b")
    alone = model_card(result)
    assert (alone["digests"]["ledger_head"], alone["digests"]["ledger_height"]) == (figures.head, figures.head_height)
    assert result.ledger.timeline == figures.timeline, "without --join the run's own ledger shows it"
    assert alone["training"]["by_site"] == plain(figures.trained)
    result = replace(result, swarm=figures)
    with style.theme():
        drawn = timeline(result)
        page = render(result, Pictures(overview(result), (), (), (), (), (drawn,)))
    assert "Across the swarm" in page
    assert "AUROC, AUPRC, sensitivity at 0.90 specificity are too low" in page, "bins hold 2 donors or more"
    assert page.count("within which ranks tie") == 3
    assert "no interval: of bins that hold 2 donors or more" in page, "why the calibration error has none"
    console = Console(width=400)
    with console.capture() as shown:
        evaluation_table.show(result, console)
    assert "AUROC, AUPRC, sensitivity at 0.90 specificity are too low" in shown.get()
    assert "site-a in" in drawn.alt
    card = model_card(result)
    assert card["digests"]["ledger_head"] == figures.head
    assert card["training"]["by_site"][0]["site"] == "site-a"
    assert sum(card["training"]["cells_by_type"].values()) == 30 * (4 + 4 + 7)
    assert card["digests"]["model"] == figures.model_digest


STUDY = Study(name="t", modality="rna", cell_types=("B", "T"), conditions=("ill", "healthy"), floors=Floors(donors=2))


def counts_of_two():
    confusion = np.stack([np.diag([30, 40]), np.diag([25, 20])])
    scores = site_counts.CellScores(confusion=confusion, reliability=np.zeros((2, 10, 3)), called=np.zeros((2, 1, 2)))
    scores.reliability[0, 9] = (115, 114.5, 115)
    return dict(site_counts.count_cells(scores, STUDY.floors, STUDY.cell_types)[0])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"cell.confusion": (1, 2, 3)}, "has 3 numbers, expected 4"),
        ({"names": (1,)}, "is no count of this study"),
        ({"cell.donors": (1,)}, "where the floor is 2"),
        ({"cell.rows": (0,) * 10}, "0 cells in the bins of confidence, 115"),
    ],
)
def test_counts_that_contradict_themselves_are_named(change, fault):
    assert not list(site_counts.faults(counts_of_two(), STUDY))
    assert fault in next(site_counts.faults(counts_of_two() | change, STUDY))


def test_types_below_the_floor_of_cells_leave_no_trace():
    confusion = np.stack([np.array([[30, 1], [0, 2]]), np.array([[25, 0], [1, 3]])])
    scores = site_counts.CellScores(confusion=confusion, reliability=np.ones((2, 10, 3)), called=np.zeros((2, 1, 2)))
    counts, withheld = site_counts.count_cells(scores, Floors(donors=2, cells=20), ("B", "T"))
    assert withheld.reasons == ("T: 6 cells, below the floor of 20; left out",)
    assert counts["cell.confusion"] == (55, 1, 0, 0)
    assert "cell.rows" not in counts
    assert float(cell.accuracy(np.array(counts["cell.confusion"]).reshape(2, 2))) == pytest.approx(55 / 56)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_first_evaluation_of_a_member_counts_in_any_order_of_reading(order):
    author = Identity("site-a", *(bytes([n]) * 32 for n in (1, 2, 3)))
    card = author.card
    founder = Member(name="site-a", signing_key=card.signing_key, sealing_key=card.sealing_key)
    state = State(Genesis(name="t", rules=b"", founders=(founder,)), identity.verify)
    raws, previous = [], NO_DIGEST
    for sequence, n in ((1, 7), (2, 8)):
        payload = Evaluation(state=b"s" * 32, counts={"cell.donors": (n,)})
        signed = author.sign(sign_bytes(state.swarm, author.key, sequence, previous, payload))
        raws.append(encode_entry(state.swarm, author.key, sequence, previous, payload, signed))
        previous = decode_entry(raws[-1]).digest
    for position, which in enumerate(order, start=1):
        state.apply(position, raws[which])
    assert state.evaluations[author.key, b"s" * 32][1].payload.counts == {"cell.donors": (7,)}


# -- what this site published ------------------------------------------------------------------------------------------


def test_everything_that_was_signed_is_listed_with_what_the_engine_and_the_members_can_read(swarm):
    joined(swarm, "site-a")
    book = swarm / "runs" / "site-a" / "ledger.sqlite"
    found = published(swarm / "swarm.toml", book)
    assert [one.sequence for one in found] == list(range(1, len(found) + 1))
    clear = {one.kind: one.clear for one in found}
    assert clear["update"]["n_cells"] == 4 * 30
    assert clear["evaluation"]["cell.confusion"].startswith("9 count(s), ")
    assert "site-c" in next(one.clear["roster"] for one in found if "roster" in one.clear)
    assert {one.kind for one in found if one.sealed} >= {"blob"}

    inside = contents(swarm / "swarm.toml", book, "site-a")
    carriers = {one.sequence: one.kind for one in found if one.kind in {"statistics", "update", "checkpoint"}}
    assert inside.keys() == carriers.keys()
    assert not any("not opened" in arrays for arrays in inside.values())
    first = next(arrays for sequence, arrays in inside.items() if carriers[sequence] == "statistics")
    assert first["cells_by_type"] == "int64 3"
    with pytest.raises(SwarmError, match="is not site-b's ledger"):
        contents(swarm / "swarm.toml", book, "site-b")


def test_the_command_shows_what_stood_sealed(swarm):
    given = ["swarm", "show", str(swarm / "swarm.toml"), "--mine", "--contents"]
    given += ["--ledger", str(swarm / "runs" / "site-a" / "ledger.sqlite")]
    told = CliRunner().invoke(app, [*given, "--identity", "site-a"], env={"COLUMNS": "160"})
    assert told.exit_code == 0, told.output
    assert "cells_by_type" in told.output
    assert isinstance(CliRunner().invoke(app, given).exception, UsageError)
