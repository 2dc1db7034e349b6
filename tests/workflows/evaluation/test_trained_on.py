"""Who may not be evaluated: donors that this site trained on by its ledger, and those that other sites trained on.

Three real peers train with cell digests allowed. Planted: one person trained on at site-a and site-b under two names;
a person whom site-b trained on, held out by site-c under another name, of whom each site kept other cells.
"""

import json
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import quiet_training

from swarmcell.cells import schema, sketches
from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmConfig, SwarmRules
from swarmcell.errors import ModelError, TamperedError
from swarmcell.model.study import DifferentialPrivacy, FitRule, Floors, PrivacyRule, Study, canonical
from swarmcell.node import identity
from swarmcell.node import ledger as ledgers
from swarmcell.swarm.entries import NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.payloads import TRAINED_BYTES_MAX, TrainedOn
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluate_join import across_the_swarm
from swarmcell.workflows.evaluation import trained_on
from swarmcell.workflows.floor_words import terms
from swarmcell.workflows.join import take_seat
from swarmcell.workflows.swarm.verify_run import verify_swarm

SITES = ("site-a", "site-b", "site-c")
FAST = {"n_bootstrap": 20}
RARE = slice(50, 56)  # six training cells of site-a, below the floor of a class


def renamed(adata, donor, *, site, name, split):
    """Return a donor's cells as another site has them: other name, other barcodes."""
    found = adata[(adata.obs["donor"] == donor).to_numpy()].copy()
    found.obs["donor"], found.obs["sample"] = name, f"{name}-1"
    found.obs["site"], found.obs["split"] = site, split
    found.obs_names = [f"{name}-{i}" for i in range(found.n_obs)]
    return found


def joined(*parts):
    whole = ad.concat(parts, uns_merge="first")
    whole.var, whole.uns = parts[0].var, parts[0].uns
    return schema.plain(whole)


@pytest.fixture(scope="module")
def cohort(make_cells):
    """Cells of each site, the planted ones in place."""
    a, b, c = (make_cells(site, n_donors=5, held_out=1, n_cells=40) for site in SITES)
    a.obs["cell_type"] = a.obs["cell_type"].astype(str)
    a.obs.loc[a.obs_names[RARE], "cell_type"] = "DC"
    a = schema.plain(a)
    twice = renamed(a, "p2", site="site-b", name="patient-77", split="train")
    moved = renamed(c, "p0", site="site-b", name="patient-78", split="train")[5:35].copy()
    c = c[[i for i in range(c.n_obs) if i % 40 < 30]].copy()
    return {"site-a": a, "site-b": joined(b, twice, moved), "site-c": schema.plain(c)}


@pytest.fixture(scope="module")
def swarm(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained-on")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        for site, cells in cohort.items():
            schema.write_prepared(cells, folder / f"{site}.h5ad")
        rule = FitRule(rounds_max=1)
        study = Study(
            name="trial",
            modality="rna",
            stages=("features", "cell"),
            cell_types=("B", "DC", "NK", "T"),
            conditions=("ill", "healthy"),
            universe_sha256=str(cohort["site-a"].uns["swarmcell"]["universe_sha256"]),
            cell=rule,
            floors=Floors(donors=1, cells=10),
            privacy=PrivacyRule(cell_digests=True),
        )
        made = swarm_file.create(
            SwarmConfig(study=study, swarm=SwarmRules()), [identity.create(site).card for site in SITES]
        )
        (folder / "swarm.toml").write_bytes(swarm_file.dump(made))
        with ThreadPoolExecutor(len(SITES)) as threads:
            said = dict(zip(SITES, threads.map(lambda site: trained(folder, site), SITES), strict=True))
        yield folder, said


def trained(folder, site):
    made = quiet_training.trained(folder, site, seat(folder, site))
    return made.notes


def seat(folder, site):
    return take_seat(folder / "swarm.toml", identity=site)


def merged(folder, site):
    return folder / "runs" / site / "merged.safetensors"


def written(adata, path):
    schema.write_prepared(adata, path)
    return path


def test_one_person_trained_on_at_two_sites_is_said_at_both(swarm):
    folder, said = swarm
    assert any("1 training donor(s) of this site were trained on at site-b too" in note for note in said["site-a"])
    assert any("1 training donor(s) of this site were trained on at site-a too" in note for note in said["site-b"])
    assert not any("trained on at" in note for note in said["site-c"])
    assert any("keyed digests" in note for note in said["site-c"])
    found = evaluate(merged(folder, "site-a"), [folder / "site-a.h5ad"], **FAST)
    assert any("Training donor site-a/p2: site-b trained on the same cells" in caveat for caveat in found.caveats)
    assert any("at site-b, site-c." in caveat for caveat in found.caveats)


def test_a_held_out_person_whom_another_site_trained_on_is_refused_by_name_with_the_site(swarm):
    folder, _ = swarm
    with pytest.raises(ModelError, match=r"site-c\.h5ad: other hospitals trained .* site-c/p0 \(25 of its cells at"):
        evaluate(merged(folder, "site-c"), [folder / "site-c.h5ad"], **FAST)
    with pytest.raises(ModelError, match=r"site-c/p0 .* at site-b"):
        across_the_swarm(merged(folder, "site-c"), [folder / "site-c.h5ad"], seat=seat(folder, "site-c"))


@pytest.mark.parametrize("name", ["p3", "somebody-else"])
def test_a_donor_that_the_ledger_says_was_trained_on_is_refused_under_any_name(swarm, cohort, tmp_path, name):
    """The file is split anew and renamed, and `run.json` was lost: the ledger knows."""
    folder, _ = swarm
    run = tmp_path / "run"
    shutil.copytree(folder / "runs" / "site-a", run)
    (run / "run.json").unlink()
    anew = renamed(cohort["site-a"], "p3", site="site-a", name=name, split="held_out")
    path = written(schema.plain(anew), tmp_path / "new name.h5ad")
    with pytest.raises(ModelError, match=r"by its ledger this site trained on 1 of the donors.*site-a/"):
        evaluate(run / "merged.safetensors", [path], **FAST)


def test_the_list_of_donors_is_the_one_that_was_signed(swarm, tmp_path):
    folder, _ = swarm
    run = tmp_path / "run"
    shutil.copytree(folder / "runs" / "site-a", run)
    kept = json.loads((run / "trained.json").read_text())
    del kept["donors"]["site-a/p3"]
    (run / "trained.json").write_text(json.dumps(kept))
    with pytest.raises(TamperedError, match="is not the list of training donors"):
        evaluate(run / "merged.safetensors", [folder / "site-a.h5ad"], **FAST)
    (run / "trained.json").unlink()
    with pytest.raises(TamperedError, match="is gone"):
        evaluate(run / "merged.safetensors", [folder / "site-a.h5ad"], **FAST)


def test_the_log_names_no_donor_and_shows_digests_to_members_only(swarm):
    folder, _ = swarm
    with ledgers.opened_to_look(folder / "runs" / "site-a" / "ledger.sqlite") as ledger:
        raws = [raw for _, raw in ledger.entries()]
    said = [entry.payload for entry in map(decode_entry, raws) if isinstance(entry.payload, TrainedOn)]
    assert len(said) == len(SITES)
    assert all(0 < len(payload.content) <= TRAINED_BYTES_MAX for payload in said)
    kept = json.loads((folder / "runs" / "site-a" / "trained.json").read_text())
    lowest = bytes.fromhex(next(iter(kept["donors"].values()))[0])
    assert not any(word in raw for raw in raws for word in (b"patient-7", b"site-a/p", lowest))
    assert verify_swarm(folder / "swarm.toml", identity="site-a").faults == []


def test_cells_that_the_floors_keep_at_the_site_are_in_no_shown_digest(swarm):
    """The site's own list knows them, so that a donor is still found; members see those of the sums only."""
    folder, said = swarm
    assert any("DC: " in note and "keeps them to itself" in note for note in said["site-a"])
    whole = sketches.of_file(folder / "site-a.h5ad", trained_on._key(seat(folder, "site-a").swarm.digest), "train")
    rare = {f"{value:016x}" for value in whole.digests[np.isin(whole.rows, np.arange(RARE.start, RARE.stop))]}
    kept = json.loads((folder / "runs" / "site-a" / "trained.json").read_text())
    assert len(rare) == 6
    assert rare <= set(kept["donors"]["site-a/p1"])
    shown = json.loads((folder / "runs" / "site-b" / "elsewhere.json").read_text())["sites"]["site-a"]
    assert not [value for value in rare if value in shown]
    assert all(value in shown for value in set(kept["donors"]["site-a/p1"]) - rare)


def test_what_others_showed_is_what_the_ledger_knows(swarm, tmp_path):
    folder, _ = swarm
    run = tmp_path / "run"
    shutil.copytree(folder / "runs" / "site-c", run)
    (run / "elsewhere.json").write_text('{"silent": [], "sites": {}}')
    with pytest.raises(TamperedError, match=r"is not what other members showed.*train --join"):
        evaluate(run / "merged.safetensors", [folder / "site-c.h5ad"], **FAST)


def test_a_run_is_for_this_user_only_and_what_others_sealed_even_if_the_folder_is_opened(swarm):
    """Whatever the umask says, and all that a run in a swarm writes is looked at."""
    folder, _ = swarm
    assert stat.S_IMODE((folder / "runs" / "site-a").stat().st_mode) == 0o700
    open_to_others = {path.name for path in (folder / "runs" / "site-a").iterdir() if path.stat().st_mode & 0o077}
    assert open_to_others <= {"log.txt", "metrics.jsonl", "merged.json", "merged.safetensors"}
    (log,) = folder.glob("swarm.*.log")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_under_differential_privacy_nothing_suggests_digests(study_files, tmp_path, monkeypatch):
    """Noise hides no digest: a study under it refuses them, so the caveat must not speak of a missing rule."""
    study = Study(
        name="trial", modality="rna", privacy=PrivacyRule(differential_privacy=DifferentialPrivacy(unit="donor"))
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    run = proved_run(tmp_path, study_files.files[0])
    (said,) = trained_on.refuse_trained_on([study_files.files[0]], {run / "merged.safetensors": study})
    assert "differential privacy no digest" in said
    assert "cell_digests" not in said
    plain = replace(study, privacy=PrivacyRule())
    (said,) = trained_on.refuse_trained_on([study_files.files[0]], {run / "merged.safetensors": plain})
    assert "cell_digests" in said


def proved_run(folder, prepared):
    """Return a run whose ledger holds the signed digest of its list, and no digest of a cell."""
    me, swarm = identity.create("alone"), bytes(32)
    payload = TrainedOn(commitment=trained_on.claim(folder, [prepared], swarm.hex()).commitment)
    signature = me.sign(sign_bytes(swarm, me.key, 1, NO_DIGEST, payload))
    with ledgers.opened(folder / "ledger.sqlite") as ledger:
        ledger.bind(swarm, me.key)
        ledger.store_own([(1, encode_entry(swarm, me.key, 1, NO_DIGEST, payload, signature))])
    return folder


def test_a_list_only_grows_and_keeps_its_salt(swarm, cohort, tmp_path):
    folder, _ = swarm
    digest = seat(folder, "site-a").swarm.digest
    first = trained_on.claim(tmp_path, [folder / "site-a.h5ad"], digest)
    assert trained_on.claim(tmp_path, [folder / "site-a.h5ad"], digest) == first
    assert first.shared == b""
    more = renamed(cohort["site-a"], "p0", site="site-a", name="p9", split="train")
    path = written(schema.plain(more), tmp_path / "more.h5ad")
    second = trained_on.claim(tmp_path, [path], digest, shown=[np.arange(more.n_obs)])
    assert second.commitment != first.commitment
    kept = json.loads((tmp_path / "trained.json").read_text())
    assert sorted(kept["donors"]) == ["site-a/p1", "site-a/p2", "site-a/p3", "site-a/p4", "site-a/p9"]


def test_what_is_not_at_hand_is_said_and_rules_without_it_keep_their_digest(swarm, tmp_path):
    folder, _ = swarm
    run = tmp_path / "run"
    shutil.copytree(folder / "runs" / "site-b", run)
    (run / "elsewhere.json").unlink()
    found = evaluate(run / "merged.safetensors", [folder / "site-b.h5ad"], **FAST)
    assert any("was not looked for: elsewhere.json is not" in caveat for caveat in found.caveats)
    study = seat(folder, "site-a").swarm.study
    assert "up to 256 cells of each training donor" in terms(study)
    assert "256" not in terms(replace(study, privacy=PrivacyRule()))
    assert "cell_digests" in canonical(study)
    assert "cell_digests" not in canonical(replace(study, privacy=PrivacyRule()))
