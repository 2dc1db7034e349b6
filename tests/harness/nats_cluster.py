"""Real nats-servers on loopback, with the configuration that swarmcell writes; tests start and kill them."""

import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import nacl.signing
from waiting import until

from swarmcell.engine import server_config
from swarmcell.engine.nats import NatsLog
from swarmcell.engine.nats_address import NatsAddress
from swarmcell.engine.nats_card import ServerCard, make_certificate
from swarmcell.errors import EngineError, InputError

SWARM = bytes(range(32))
PORTS = range(10_000, 32_768)  # below those that Linux gives to outgoing connections
_claims = []  # held until this process ends


def missing_binary():
    """Return why there is no server to test with, or an empty text."""
    try:
        server_config.find_binary()
    except InputError as error:
        return str(error)
    return ""


def free_ports(count):
    """Return ports that nobody on this machine listens on, and that no other process of these tests gets.

    A port that the kernel chooses may be the near end of any connection a moment later, and again whenever its server
    is down: the server could not start.
    """
    candidates = random.SystemRandom().sample(PORTS, len(PORTS))
    return list(itertools.islice(filter(_claim, candidates), count))


def _claim(port):
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0swarmcell-test-port-{port}")  # a name that goes with the process, whatever ends it
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def engine_key(secret):
    return bytes(nacl.signing.SigningKey(secret).verify_key)


class NatsCluster:
    """Servers `site-a`, `site-b`, ... with their files under a folder."""

    def __init__(self, folder, *, size=3, founders=(b"f" * 32,), members=(), websocket=False):
        self.folder = Path(folder)
        self.founders = founders
        self.processes = {}
        self.sites = [f"site-{letter}" for letter in "abcde"[:size]]
        ports = free_ports(3 * size)
        self.cards = []
        for number, site in enumerate(self.sites):
            home = self.folder / site
            home.mkdir(parents=True)
            key, certificate = make_certificate(site, "127.0.0.1")
            client, cluster, web = ports[3 * number : 3 * number + 3]
            (home / server_config.KEY_FILE).write_bytes(key)
            (home / server_config.CERTIFICATE_FILE).write_text(certificate)
            self.cards.append(
                ServerCard(
                    site=site,
                    host="127.0.0.1",
                    client_port=client,
                    cluster_port=cluster,
                    websocket_port=web if websocket else 0,
                    certificate=certificate,
                )
            )
        self.cluster = server_config.Cluster(
            name="test",
            cards=tuple(self.cards),
            founders=tuple(map(engine_key, founders)),
            members=tuple(map(engine_key, members)),
            store_gb=1,
        )
        binary = os.environ.get("NATS_SERVER")
        self.binary = server_config.find_binary(Path(binary) if binary else None)
        for site in self.sites:
            self._write(site)

    def _write(self, site):
        home = self.folder / site
        (home / server_config.TRUST_FILE).write_text(self.cluster.trust)
        (home / server_config.SYNC_FILE).write_text(server_config.durability(server_config.version(self.binary)))
        text = server_config.render(self.cluster, site, home).replace("0.0.0.0", "127.0.0.1")
        (home / server_config.SERVER_FILE).write_text(text)

    def start(self, *sites):
        for site in sites or self.sites:
            home = self.folder / site
            with (home / "log.txt").open("ab") as log:
                command = [self.binary, "-c", home / server_config.SERVER_FILE]
                self.processes[site] = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)

    def kill(self, site):
        process = self.processes.pop(site)
        process.kill()
        process.wait()

    def stop(self):
        for site in list(self.processes):
            self.kill(site)

    def lose_store(self, site):
        shutil.rmtree(self.folder / site / server_config.STORE_FOLDER)

    def address(self, *, first="", replicas=None, websocket=False, **options):
        cards = sorted(self.cards, key=lambda card: card.site != first)
        return NatsAddress(
            servers=tuple(card.url(websocket=websocket) for card in cards),
            replicas=replicas or len(self.sites),
            trust=self.cluster.trust,
            **options,
        )

    def log(self, *, swarm=SWARM, secret=None, **options):
        return NatsLog(self.address(**options), swarm, secret or self.founders[0])

    @contextlib.asynccontextmanager
    async def opened(self, **options):
        log = self.log(**options)
        try:
            yield log
        finally:
            await log.close()

    def engine_toml(self):
        """Return the [engine] part of a site file; the servers' cards are written beside their folders."""
        paths = []
        for card in self.cards:
            paths.append(self.folder / f"{card.site}.engine.toml")
            paths[-1].write_bytes(card.to_toml())
        return f'[engine]\nkind = "nats"\ncards = {json.dumps([str(path) for path in paths])}\n'

    async def ready(self, swarm=SWARM):
        """Wait until the stream can be made and all its replicas are in step; return who leads it."""
        async with self.opened(swarm=swarm) as log:

            async def leader():
                with contextlib.suppress(EngineError):
                    about = (await log.health()).about
                    if f"{len(self.processes)} of" in about and "led by" in about:
                        return about.split("led by ")[1].split(",")[0]
                return ""

            return await until(leader)
