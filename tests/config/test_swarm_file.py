"""Facts about the swarm file."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.config import swarm_file
from swarmcell.errors import ConfigError, TamperedError
from swarmcell.model.study import Study
from swarmcell.node.identity import Identity

STUDY = Study(name="sepsis", modality="rna", cell_types=("B", "T"), conditions=("ctrl", "case"))


def identity(name):
    return Identity(name, *((name + kind).encode().ljust(32, b".") for kind in ("1", "2", "3")))


CARDS = [identity(name).card for name in ("site-a", "site-b", "site-c")]


def made(**rules):
    config = swarm_file.SwarmConfig(study=STUDY, swarm=swarm_file.SwarmRules(**rules))
    return swarm_file.create(config, CARDS)


def write(tmp_path, content):
    path = tmp_path / "swarm.toml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "change",
    [
        ('name = "sepsis"', 'name = "other"'),
        ("patience_s = 60.0", "patience_s = 6.0"),
        ("n_top = 2000", "n_top = 2001"),
        ('cell_types = [\n    "B",', 'cell_types = [\n    "b",'),
        ('name = "site-b"', 'name = "site-x"'),
    ],
)
def test_a_changed_value_is_refused(tmp_path, change):
    text = swarm_file.dump(made()).decode()
    assert change[0] in text
    path = write(tmp_path, text.replace(*change, 1).encode())
    with pytest.raises(TamperedError, match="Ask whoever created"):
        swarm_file.load(path)


@given(st.data())
def test_a_changed_key_or_digest_is_refused(tmp_path_factory, data):
    text = swarm_file.dump(made()).decode()
    spot = data.draw(st.sampled_from([m.start() for m in re.finditer(r"[0-9a-f]{64}", text)]))
    spot += data.draw(st.integers(0, 63))
    other = data.draw(st.sampled_from([c for c in "0123456789abcdef" if c != text[spot]]))
    path = write(tmp_path_factory.mktemp("swarm"), (text[:spot] + other + text[spot + 1 :]).encode())
    with pytest.raises(TamperedError):
        swarm_file.load(path)


@given(st.binary(max_size=300))
def test_junk_is_refused_with_a_clear_error(tmp_path_factory, junk):
    with pytest.raises(ConfigError):
        swarm_file.load(write(tmp_path_factory.mktemp("swarm"), junk))


def test_rules_by_which_no_swarm_can_run_are_refused():
    with pytest.raises(ConfigError, match="at least 4 founders"):
        made(f=1)
    with pytest.raises(ConfigError, match="min_updates"):
        made(min_updates=3)
    with pytest.raises(ConfigError, match="share a name or a key"):
        swarm_file.create(swarm_file.SwarmConfig(study=STUDY), [CARDS[0], CARDS[0]])


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('[study]\nname = "x"\nmodality = "rna"\ncolour = 1\n[swarm]\nf = 0\n')
    with pytest.raises(ConfigError, match="colour"):
        swarm_file.load_config(path)


def test_a_swarm_file_comes_back_as_it_was_made(tmp_path):
    path = write(tmp_path, swarm_file.dump(made()))
    assert swarm_file.load(path) == made()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "another version of swarmcell without a format number"),
        (
            "format = 1\nmade_by = '0.0.9'\n",
            "by swarmcell 0.0.9 in format 1.*found the swarm anew: swarmcell swarm create",
        ),
        ("format = 99\nmade_by = '9.0'\n", "by swarmcell 9.0 in format 99; .* reads format 2. Update swarmcell"),
    ],
)
def test_a_file_of_another_format_says_which_and_what_to_do(tmp_path, change, said):
    text = swarm_file.dump(made()).decode()
    head = text[text.index("format = ") : text.index("digest = ")]
    with pytest.raises(ConfigError, match=said):
        swarm_file.load(write(tmp_path, text.replace(head, change).replace("seed = 0", "newcomer = 1").encode()))


def test_comments_and_order_do_not_change_the_digest(tmp_path):
    text = swarm_file.dump(made()).decode()
    path = write(tmp_path, ("# a remark\n" + text.replace("f = 0\n", "# f\n  f   = 0\n")).encode())
    assert swarm_file.load(path).genesis() == made().genesis()


def test_the_genesis_holds_the_whole_study():
    assert swarm_file.study_of(made().genesis()) == STUDY


def test_min_updates_defaults_to_the_quorum():
    assert made().swarm.min_updates == 2
    assert made(min_updates=1).swarm.min_updates == 1


def test_a_universe_file_becomes_its_digest(tmp_path):
    from swarmcell.cells import panel

    universe = panel.from_ids(["G1", "G2"], ["g1", "g2"], name="u")
    (tmp_path / "universe.json").write_text(panel.to_json(universe))
    path = tmp_path / "study.toml"
    path.write_text('[study]\nname = "x"\nmodality = "rna"\nuniverse = "universe.json"\n')
    assert swarm_file.load_config(path).study.universe_sha256 == universe.sha256


def test_reading_a_swarm_file_loads_nothing_that_reads_cells():
    code = "import sys, swarmcell.workflows.join, swarmcell.workflows.swarm.members; print('anndata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "whoever looks at a swarm would wait for it"


def test_a_file_of_a_version_that_knew_fewer_rules_is_not_called_changed(tmp_path):
    text = swarm_file.dump(made()).decode().replace(made().digest, "0" * 64)
    assert "patience_rounds = 5\n" in text
    with pytest.raises(ConfigError, match=r"did not know cell.patience_rounds among a study's rules"):
        swarm_file.load(write(tmp_path, text.replace("patience_rounds = 5\n", "", 1).encode()))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("[study]\nname = 'a'\n", "a study's configuration"),
        ("name = 'site-a'\nsigning_key = 'a'\n", "an identity's card"),
        ("name = 'site-a'\n[engine]\nkind = 'embedded'\n", "a site file"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, content, kind):
    with pytest.raises(ConfigError, match=f"{kind}, not a swarm file. Make one: swarmcell swarm create"):
        swarm_file.load(write(tmp_path, content.encode()))
    with pytest.raises(ConfigError, match=r"a swarm file, expected a study's configuration"):
        swarm_file.load_config(write(tmp_path, swarm_file.dump(made())))
