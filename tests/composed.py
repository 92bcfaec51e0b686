"""A folder of `cachesim compose`, for tests that start its topology."""

import os
import secrets
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from cachesim import Settings
from cachesim.backends.compose.folder import read_folder, write_folder
from cachesim.servers import clients
from cachesim.servers.admin import NodeClients
from cachesim.servers.certificates import client_context
from cachesim.servers.credentials import ADMIN_USER, DEFAULT_USER

if TYPE_CHECKING:
    from redis.cluster import RedisCluster


def free_base_port() -> int:
    """The first of thirty ports that nobody has."""
    draw = Random()
    while True:
        base = draw.randrange(20000, 32000, 10)
        try:
            for port in range(base, base + 30):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base


def public(folder: Path) -> dict[str, bytes]:
    """All files except the secrets, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {path: text for path, text in contents.items() if not path.startswith("secrets/")}


class Folder:
    """A folder of `cachesim compose`, and compose in it."""

    def __init__(self, parent: Path, program: list[str], settings: Settings | None = None) -> None:
        # Its name is the project's: other tests may run at the same time.
        self.path = parent / f"test-{secrets.token_hex(4)}"
        self.project = f"cachesim-{self.path.name}"
        self._program = program
        write_folder(self.path, settings or Settings(), free_base_port())
        composed = read_folder(self.path)
        self.composed, self.plan = composed, composed.plan
        self.tls = client_context(composed.ca)
        password = composed.credentials.admin_password
        self.admin = NodeClients(self.plan.admin, ADMIN_USER, password, self.tls)
        token = composed.credentials.token
        self.through_links = NodeClients(self.plan.endpoint, DEFAULT_USER, token, self.tls)

    def compose(self, *arguments: str, fails: bool = False) -> str:
        """Run a command of compose, and give what it prints."""
        # The user's own variables would choose another file or project.
        env = {k: v for k, v in os.environ.items() if not k.startswith("COMPOSE_")}
        done = subprocess.run(
            [*self._program, *arguments],
            cwd=self.path, env=env, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, output
        return output

    def up(self, **how: bool) -> str:
        """Bring it up with one command."""
        wait = ["--wait"] if self._program[0] == "docker" else []
        return self.compose("up", "-d", *wait, **how)

    def again(self) -> None:
        """Restart everything."""
        if self._program[0] == "docker":
            self.compose("restart")
        else:
            self.compose("stop")
        self.up()

    def redis(self) -> "RedisCluster":
        """A client, configured as in production."""
        nodes = [self.plan.endpoint(node.name) for node in self.plan.topology.redis]
        ca = self.path / "secrets/ca.pem"
        return clients.redis_cluster(nodes, self.composed.credentials.token, ca)

    def keep(self, key: str, value: str) -> None:
        """Write it to all Redis nodes: what a replica has not got yet may be lost."""
        with closing(self.redis()) as redis:
            primary = redis.get_redis_connection(redis.get_primaries()[0])
            primary.set(key, value)
            assert primary.wait(2, 5000) == 2

    def close(self) -> None:
        """Take it down."""
        self.admin.close()
        self.through_links.close()
        self.compose("down", "-v")
