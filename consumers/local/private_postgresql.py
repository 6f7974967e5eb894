"""A PostgreSQL of our own: one cluster with its own folder, port and password, heard on 127.0.0.1 only."""

import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import psycopg

from consumers.local.packages import wait_for_others
from consumers.local.serving import (
    Guarded,
    Server,
    ServerDied,
    account,
    free_port,
    group_of,
    home,
    is_free,
    sole_use,
)

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/postgresql*/bin")

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path has 107 characters at most; folders of tests have more
    "max_connections": "200",
    "timezone": "UTC",
    "logging_collector": "off",
}

_AS_IN_SERVICE = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
"""As docker-compose.yml has it: a large audience written at PostgreSQL's own defaults is a checkpoint every 14 s."""

_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For tests: three times as fast to make a database, and all lost in a power cut."""


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What must stay the same from one start to the next."""

    port: int
    password: str


class PrivatePostgreSQL:
    """One cluster on the folder `where`. Start, stop, kill and start it again: the data and the address stay.

    `durable=False` trades safety for speed (fsync off): for tests only.

    Raises:
        FileNotFoundError: no PostgreSQL server is installed on this machine.
    """

    def __init__(self, where: Path, *, durable: bool) -> None:
        programs = installed()
        if programs is None:
            raise FileNotFoundError("PostgreSQL is not installed here: there is no initdb in any known place.")
        self._programs = programs
        self._settings = _SETTINGS | (_AS_IN_SERVICE if durable else _FORGETFUL)
        self._user = account("postgres")
        self._where = where
        self._home = home(where, "postgresql", self._user)
        self._cluster: _Cluster | None = None
        self._running: Guarded | None = None

    @property
    def url(self) -> str:
        """Where to reach it, with its password; known from the first start, the same after every other."""
        return self._address("postgresql+psycopg", "allerta")

    def start(self, patience: timedelta = timedelta(seconds=60)) -> None:
        """Come back when it lets us in; the first time, with an empty database `allerta`.

        Raises:
            ServerDied: it ended, or did not let us in; with the end of its log.
            AlreadyRunning: another process runs it on the same folder.
        """
        self._home = home(self._where, "postgresql", self._user)
        with sole_use(self._home) as held:
            self._cluster = self._cluster or self._remembered() or _Cluster(free_port(), token_hex(16))
            self._write("cluster.json", json.dumps(asdict(self._cluster)))
            if not (self._home / "data" / "PG_VERSION").exists():
                self._create(self._cluster)
            # SIGINT is the fast shutdown: sessions are ended, what was committed is kept.
            server = Server(self._command(self._cluster), self._environment(), self._log, self._user, signal.SIGINT)
            self._running = Guarded.start([server], held)
        try:
            self._running.wait_until(self._lets_in, patience, "PostgreSQL")
            self._make_database()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """An orderly end. Does nothing where it does not run."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def kill(self) -> None:
        """kill -9, as in a power cut. Does nothing where it does not run."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def wipe(self) -> None:
        """Stop it and forget all it held; a later start begins with an empty database at the same address."""
        self.stop()
        shutil.rmtree(self._home)

    @property
    def _log(self) -> Path:
        return self._home / "postgresql.log"

    def _command(self, cluster: _Cluster) -> list[str]:
        command = [str(self._programs / "postgres"), "-D", str(self._home / "data"), "-p", str(cluster.port)]
        return command + [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]

    def _create(self, cluster: _Cluster) -> None:
        shutil.rmtree(self._home / "data", ignore_errors=True)  # what an interrupted initdb left
        secret = self._home / "password"
        self._write("password", cluster.password)
        command = [
            str(self._programs / "initdb"),
            "-D",
            str(self._home / "data"),
            "-U",
            "allerta",
            "--no-sync",
        ]
        command += ["--auth=password", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            command,
            env=self._environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            group=group_of(self._user),
            extra_groups=[] if self._user else None,
        )
        secret.unlink()
        if made.returncode != 0:
            raise ServerDied(f"initdb could not make a database in {self._home / 'data'}:\n{made.stderr}")

    def _lets_in(self) -> bool:
        try:
            psycopg.connect(self._address("postgresql", "postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        with psycopg.connect(self._address("postgresql", "postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'allerta'").fetchone() is None:
                connection.execute("CREATE DATABASE allerta")

    def _address(self, scheme: str, database: str) -> str:
        if self._cluster is None:
            raise RuntimeError("This PostgreSQL has no address yet: call start() first.")
        return f"{scheme}://allerta:{self._cluster.password}@127.0.0.1:{self._cluster.port}/{database}"

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": str(self._home)}

    def _remembered(self) -> _Cluster | None:
        """The cluster whose data lies here; on a new port where another program took the old one."""
        file = self._home / "cluster.json"
        if not file.exists():
            return None
        cluster = _Cluster(**json.loads(file.read_text()))
        return cluster if is_free(cluster.port) else _Cluster(free_port(), cluster.password)

    def _write(self, name: str, content: str) -> None:
        file = self._home / name
        file.write_text(content)
        if self._user is not None:
            shutil.chown(file, self._user)
        file.chmod(0o600)


def installed() -> Path | None:
    """The folder with initdb and postgres, of the newest version here; Debian keeps them off the PATH."""
    wait_for_others()
    folders = [folder for place in _PLACES for folder in Path("/").glob(place[1:])]
    folders.sort(key=lambda folder: [int(digits) for digits in re.findall(r"\d+", str(folder))], reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((one for one in folders if (one / "initdb").is_file() and (one / "postgres").is_file()), None)
