"""Facts about `swarmcell engine`, and site files that name a cluster: a real server is set up, run and reloaded."""

import asyncio
import subprocess
import tomllib

import pytest
from nats_cluster import free_ports, missing_binary
from typer.testing import CliRunner
from waiting import wait_until

from swarmcell.cli.app import app
from swarmcell.config import site, swarm_file
from swarmcell.engine import nats_connection, server_config
from swarmcell.errors import EngineError, InputError, UsageError
from swarmcell.model.study import Study
from swarmcell.node import identity
from swarmcell.workflows import engine

runner = CliRunner()


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def run(*words):
    return runner.invoke(app, list(map(str, words)))


@pytest.fixture
def founded(tmp_path):
    """A swarm of one founder with a server's card; the founder's identity is site-a."""
    founder = identity.create("site-a").card
    made = swarm_file.create(swarm_file.SwarmConfig(study=Study(name="trial", modality="rna")), [founder])
    (tmp_path / "swarm.toml").write_bytes(swarm_file.dump(made))
    client, cluster = free_ports(2)
    card = ("engine", "card", "site-a", "--host", "127.0.0.1", "--client-port", client, "--cluster-port", cluster)
    assert run(*card).exit_code == 0
    return tmp_path


CARD = "engine/site-a.engine.toml"


def test_init_writes_a_site_file_that_names_the_cluster_and_how_to_reach_it(founded):
    made = run("init", "--name", "site-a", "--engine-card", CARD, "--proxy", "http://proxy:3128")
    assert made.exit_code == 0, made.output
    settings = site.load_site(founded / "site.toml").engine
    assert settings.kind == "nats"
    assert settings.proxy == "http://proxy:3128"
    assert settings.address("site-a").servers[0].startswith("tls://127.0.0.1:")


def test_init_refuses_a_card_that_is_none_and_a_proxy_without_a_cluster(founded):
    assert isinstance(run("init", "--engine-card", "swarm.toml").exception, Exception)
    assert isinstance(run("init", "--proxy", "http://proxy:3128").exception, UsageError)
    assert not (founded / "site.toml").exists()


def test_init_refuses_websocket_where_the_servers_have_none(founded):
    assert "offers no WebSocket" in str(run("init", "--engine-card", CARD, "--websocket").exception)


def test_a_site_file_may_trust_the_authority_of_a_box_that_opens_tls(founded):
    (founded / "ca.pem").write_text(tomllib.loads((founded / CARD).read_text())["certificate"])
    run("init", "--engine-card", CARD)
    text = (founded / "site.toml").read_text()
    (founded / "site.toml").write_text(text.replace('# trust = "hospital-ca.pem"', 'trust = "ca.pem"'))
    assert site.load_site(None).engine.address().trust.count("BEGIN CERTIFICATE") == 2


def test_a_missing_server_program_is_said_with_how_to_get_it(founded, monkeypatch):
    assert run("engine", "config", "swarm.toml", CARD).exit_code == 0
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(server_config, "_PLACES", ())
    error = run("engine", "run").exception
    assert isinstance(error, InputError)
    assert "apt-get install nats-server" in str(error)


def test_a_revoked_site_is_taken_out_of_the_configuration_by_name(founded):
    identity.create("site-b")
    both = ("engine", "config", "swarm.toml", CARD, "--member", "site-b", "--force")
    assert run(*both).exit_code == 0
    assert (founded / "engine/nats-server.conf").read_text().count("nkey:") == 2
    assert run(*both, "--without", "site-b").exit_code == 0
    assert (founded / "engine/nats-server.conf").read_text().count("nkey:") == 1
    assert "neither a founder nor" in str(run(*both, "--without", "site-x").exception)


def test_durability_is_what_the_version_can_give():
    assert "needs nats-server 2.10" in server_config.durability((2, 9, 10))
    assert server_config.durability((2, 10, 0)) == "sync_interval: always\n"


def test_reloading_without_a_running_server_says_so(founded):
    if why := missing_binary():
        pytest.skip(why)
    run("engine", "config", "swarm.toml", CARD)
    assert "no server of this folder runs" in str(run("engine", "reload").exception)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_member_that_is_new_may_connect_once_the_running_server_is_reloaded(founded, monkeypatch):
    if why := missing_binary():
        pytest.skip(why)
    monkeypatch.setattr(nats_connection, "CONNECT_WAIT_S", 3.0)
    identity.create("site-b")
    assert run("engine", "config", "swarm.toml", CARD).exit_code == 0
    conf = founded / "engine/nats-server.conf"
    local(conf)
    with (founded / "server.txt").open("wb") as log:
        server = subprocess.Popen(engine.command(founded / "engine"), stdout=log, stderr=log)
    try:
        run("init", "--name", "site-b", "--engine-card", CARD)
        wait_until(lambda: "refuses this site" in health(), "a server")
        assert run("engine", "config", "swarm.toml", CARD, "--member", "site-b", "--force").exit_code == 0
        local(conf)
        assert run("engine", "reload").exit_code == 0
        wait_until(lambda: "refuses this site" not in health(), "a server that knows this site")
    finally:
        server.kill()
        server.wait()


def local(conf):
    conf.write_text(conf.read_text().replace("0.0.0.0", "127.0.0.1"))


def health():
    """Return what site-b hears from the engine: that it is refused, or something else."""

    async def ask():
        log = site.open_log(site.load_site(None), "swarm.toml", bytes(32), identity.load("site-b").engine_secret)
        try:
            async with asyncio.timeout(5):
                return (await log.health()).about
        except (EngineError, TimeoutError) as error:
            return str(error)
        finally:
            await log.close()

    return asyncio.run(ask())
