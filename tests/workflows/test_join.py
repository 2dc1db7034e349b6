"""Facts about taking a seat in a swarm: which identity signs, and who is refused before anything is signed."""

import pytest

from swarmcell.config import swarm_file
from swarmcell.errors import InputError, SwarmError
from swarmcell.model.study import Study
from swarmcell.node import identity
from swarmcell.workflows.join import refuse_stranger, take_part, take_seat


@pytest.fixture
def swarm(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    cards = [identity.create(name).card for name in ("site-a", "site-b", "site-c")]
    made = swarm_file.create(swarm_file.SwarmConfig(study=Study(name="trial", modality="rna")), cards)
    path = tmp_path / "swarm.toml"
    path.write_bytes(swarm_file.dump(made))
    return path


def forget(*names):
    for name in names:
        identity.secret_path(name).unlink()


def test_without_a_choice_among_several_identities_one_must_be_named(swarm):
    with pytest.raises(SwarmError, match="--identity"):
        take_seat(swarm)


def test_an_identity_that_does_not_exist_is_refused(swarm):
    with pytest.raises(InputError, match="no such identity"):
        take_seat(swarm, identity="nobody")


def test_a_site_file_that_is_named_must_exist(swarm):
    with pytest.raises(InputError, match="cannot be read"):
        take_seat(swarm, site_file=swarm.with_name("none.toml"))


def test_a_ledger_of_another_swarm_is_refused_before_anything_is_signed(swarm, tmp_path):
    from swarmcell.node import ledger
    from swarmcell.workflows.join import LEDGER

    run = tmp_path / "run"
    with ledger.opened(run / LEDGER) as book:
        book.bind(b"x" * 32, b"y" * 32)
    with pytest.raises(SwarmError, match="another swarm"):
        take_part(take_seat(swarm, identity="site-a"), None, run=run, observer=lambda *_: None)
    assert not list(tmp_path.glob("swarm.*.log"))


def test_the_identity_named_as_the_site_of_the_cells_signs(swarm):
    assert take_seat(swarm, cells_of=["site-b"]).identity.name == "site-b"


def test_the_identity_of_the_site_file_signs(swarm, tmp_path):
    (tmp_path / "site.toml").write_text('name = "hospital"\nidentity = "site-c"\n')
    assert take_seat(swarm).identity.name == "site-c"
    assert take_seat(swarm, identity="site-a").identity.name == "site-a"


def test_the_only_local_founder_signs_without_being_named(swarm):
    forget("site-a", "site-c")
    identity.create("unrelated")
    assert take_seat(swarm).identity.name == "site-b"


def test_a_swarm_that_does_not_know_this_site_is_refused_with_its_members_and_the_remedy(swarm):
    identity.create("site-x")
    with pytest.raises(SwarmError, match=r"site-x is no member.*site-a, site-b, site-c.*swarmcell swarm accept"):
        refuse_stranger(take_seat(swarm, identity="site-x"))


def test_a_founder_is_no_stranger_but_another_key_of_its_name_is(swarm):
    refuse_stranger(take_seat(swarm, identity="site-b"))
    forget("site-b")
    identity.create("site-b")
    with pytest.raises(SwarmError, match=r"site-b is no member.*that name has another key"):
        refuse_stranger(take_seat(swarm, identity="site-b"))


def test_an_invited_site_is_no_stranger_before_it_is_admitted(swarm):
    identity.create("site-d")
    found = swarm_file.load(swarm)
    known = swarm_file.KnownBlock(height=3, body="ab" * 32)
    swarm.write_bytes(swarm_file.dump(found.model_copy(update={"history": (known,)})))
    refuse_stranger(take_seat(swarm, identity="site-d"))
