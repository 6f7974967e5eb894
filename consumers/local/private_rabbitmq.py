"""A RabbitMQ of our own: one node with its own name, ports, cookie and data, heard on 127.0.0.1 only."""

import json
import os
import shutil
import socket
import struct
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote, unquote, urlsplit

from consumers.local.packages import wait_for_others
from consumers.local.serving import Guarded, Server, account, free_ports, home, is_free, sole_use

# Never the one in /usr/sbin: Debian's is a wrapper that drops the environment.
_PLACES = (
    "/usr/lib/rabbitmq/bin",
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/rabbitmq/sbin",
    "/opt/rabbitmq_server-*/sbin",
    "/usr/local/lib/rabbitmq_server-*/sbin",
)

_CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{port}
distribution.listener.interface = 127.0.0.1
loopback_users = none
default_user = allerta
default_pass = {password}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 500MB
raft.wal_max_size_bytes = 64000000
log.console = false
log.file.level = warning
"""

# Two schedulers, and none that spins while it waits: the machine is shared with the processes under test.
_ERLANG = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"


@dataclass(frozen=True, slots=True)
class _Node:
    """What must stay the same from one start to the next, or the data would be another node's."""

    name: str
    amqp: int
    distribution: int
    epmd: int
    password: str


class PrivateRabbitMQ:
    """One node on the folder `where`. Start, stop, kill and start it again: the data and the address stay.

    Raises:
        FileNotFoundError: no RabbitMQ is installed on this machine.
    """

    def __init__(self, where: Path) -> None:
        program = installed()
        if program is None:
            raise FileNotFoundError("RabbitMQ is not installed here: there is no rabbitmq-server in any known place.")
        self._program = program
        self._user = account("rabbitmq")
        self._where = where
        self._home = home(where, "rabbitmq", self._user)
        self._node: _Node | None = None
        self._running: Guarded | None = None

    @property
    def url(self) -> str:
        """Where to reach it, with its password; known from the first start, the same after every other."""
        if self._node is None:
            raise RuntimeError("This RabbitMQ has no address yet: call start() first.")
        return f"amqp://allerta:{self._node.password}@127.0.0.1:{self._node.amqp}/"

    def start(self, patience: timedelta = timedelta(seconds=60)) -> None:
        """Come back when it lets us in.

        Raises:
            ServerDied: it ended, or did not let us in; with the end of its log.
            AlreadyRunning: another process runs it on the same folder.
        """
        self._home = home(self._where, "rabbitmq", self._user)
        with sole_use(self._home) as held:
            self._node = self._node or self._remembered() or _a_new_node()
            self._configure(self._node)
            environment, log = self._environment(self._node), self._home / "rabbitmq.log"
            epmd = ["epmd", "-address", "127.0.0.1", "-port", str(self._node.epmd)]
            programs = [epmd, [str(self._program)]]
            self._running = Guarded.start([Server(one, environment, log, self._user) for one in programs], held)
        try:
            self._running.wait_until(lambda: lets_in(self.url), patience, "RabbitMQ")
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
        """Stop it and forget all it held; a later start begins with an empty node at the same address."""
        self.stop()
        shutil.rmtree(self._home)

    def _configure(self, node: _Node) -> None:
        self._write("node.json", json.dumps(asdict(node)))
        self._write("rabbitmq.conf", _CONFIGURATION.format(port=node.amqp, password=node.password))
        self._write("enabled_plugins", "[].\n")
        self._write("environment.conf", "")

    def _environment(self, node: _Node) -> dict[str, str]:
        data = self._home / "data"
        return {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self._home),  # the cookie is made here
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(node.epmd),
            "ERL_CRASH_DUMP": "/dev/null",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes Erlang, no shell waits
            "RABBITMQ_NODENAME": node.name,
            "RABBITMQ_DIST_PORT": str(node.distribution),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "environment.conf"),  # not the system's
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "no-advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._home / "generated"),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }

    def _remembered(self) -> _Node | None:
        """The node whose data lies here; on new ports where another program took the old ones meanwhile."""
        file = self._home / "node.json"
        if not file.exists():
            return None
        node = _Node(**json.loads(file.read_text()))
        if all(is_free(port) for port in (node.amqp, node.distribution, node.epmd)):
            return node
        return _on_free_ports(node.name, node.password)

    def _write(self, name: str, content: str) -> None:
        file = self._home / name
        file.write_text(content)
        if self._user is not None:
            shutil.chown(file, self._user)
        file.chmod(0o600)


def _a_new_node() -> _Node:
    return _on_free_ports(f"allerta-{token_hex(4)}@localhost", token_hex(16))


def _on_free_ports(name: str, password: str) -> _Node:
    amqp, distribution, epmd = free_ports(3)
    return _Node(name, amqp, distribution, epmd, password)


def installed() -> Path | None:
    """The rabbitmq-server here that minds its environment. Never run to ask: `--version` starts a server."""
    wait_for_others()
    for place in _PLACES:
        for folder in sorted(Path("/").glob(place[1:]), reverse=True):
            if (folder / "rabbitmq-server").is_file():
                return folder / "rabbitmq-server"
    return None


def lets_in(url: str, timeout: timedelta = timedelta(seconds=2)) -> bool:
    """Whether a RabbitMQ at this address (amqp://…) accepts the name and the password in it.

    AMQP 0-9-1 by hand, as far as connection.tune: pika belongs to `alerting.amqp` alone.
    """
    parts = urlsplit(url)
    name, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
    secret = f"\0{name}\0{password}".encode()
    start_ok = struct.pack("!HHL", 10, 11, 0) + b"\x05PLAIN" + struct.pack("!L", len(secret)) + secret + b"\x05en_US"
    try:
        with socket.create_connection(
            (parts.hostname or "127.0.0.1", parts.port or 5672), timeout.total_seconds()
        ) as line:
            line.sendall(b"AMQP\x00\x00\x09\x01")
            if _method(line) != (10, 10):  # connection.start
                return False
            line.sendall(struct.pack("!BHL", 1, 0, len(start_ok)) + start_ok + b"\xce")
            return _method(line) == (10, 30)  # connection.tune
    except OSError:
        return False


def _method(line: socket.socket) -> tuple[int, int] | None:
    """Class and method of the next frame; None where the line ended or no method came."""
    kind, _, size = struct.unpack("!BHL", _exactly(line, 7) or bytes(7))
    payload = _exactly(line, size + 1) if kind == 1 else None
    if payload is None:
        return None
    class_id, method_id = struct.unpack("!HH", payload[:4])
    return class_id, method_id


def _exactly(line: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def safe(url: str) -> str:
    """The address without its password, for messages."""
    parts = urlsplit(url)
    return url.replace(f":{quote(parts.password, safe='')}@", ":********@") if parts.password else url
