# ruff: noqa: D102 (names say it)
"""Three nats-servers on loopback, set up as three hospitals would by `swarmcell engine card`, `config` and `run`."""

import contextlib
import json
import shutil
import socket
import subprocess
from pathlib import Path

from swarmcell.engine import server_config
from swarmcell.engine.nats_card import ServerCard
from swarmcell.workflows import engine


class Servers:
    """The servers of one swarm, under a folder; `site_engine` is the [engine] part of a site file."""

    def __init__(self, folder: Path, swarm: Path, sites: tuple[str, ...]) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = contextlib.ExitStack()
        ports = _free_ports(2 * len(sites))
        cards = []
        for number, site in enumerate(sites):
            wanted = ServerCard(
                site=site, host="127.0.0.1", client_port=ports[2 * number], cluster_port=ports[2 * number + 1]
            )
            cards.append(engine.make_card(wanted, folder / site).card_file)
        for site in sites:
            made = engine.configure(swarm, cards, folder / site, store_gb=1).server_file
            made.write_text(made.read_text().replace("0.0.0.0", "127.0.0.1"))
        self.sites = sites
        self.site_engine = f'[engine]\nkind = "nats"\ncards = {json.dumps([str(card) for card in cards])}\n'

    def start(self, *sites: str) -> None:
        for site in sites or self.sites:
            log = self._logs.enter_context((self._folder / site / "log.txt").open("ab"))
            self._running[site] = subprocess.Popen(engine.command(self._folder / site), stdout=log, stderr=log)

    def kill(self, site: str) -> None:
        process = self._running.pop(site)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for site in list(self._running):
            self.kill(site)
        self._logs.close()


def missing() -> bool:
    """Whether there is no nats-server on this machine."""
    return shutil.which("nats-server", path=":".join(server_config._PLACES)) is None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
