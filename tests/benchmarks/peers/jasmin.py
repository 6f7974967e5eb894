"""Jasmin, the SMS gateway of PyPI: Twisted, RabbitMQ and Redis, bound to our message centre by SMPP."""

import socket
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlencode, urlsplit

from rich.console import Console

from consumers.local.services import rabbitmq
from consumers.local.serving import free_ports
from tests.benchmarks.peers.overtaking import CAP, Overtaking, overtaking, take_in
from tests.benchmarks.peers.programs import (
    environment,
    folder,
    listens,
    package_version,
    pinned,
    program,
    running,
    server,
)
from tests.benchmarks.peers.smpp_sink import smpp_sink

BACKLOG = 15_000
HIGHEST = 3  # /send takes priority 0 to 3
SETTINGS = "SMPP transceiver, submit_throughput {cap:g}, priority 3 of 0-3"

CONFIGURATION = """\
[smpp-server]
bind = 127.0.0.1
port = {smpps}
[smpp-server-pb]
bind = 127.0.0.1
port = {smpps_pb}
[client-management]
bind = 127.0.0.1
port = {clients}
store_path = {where}/store
[router]
bind = 127.0.0.1
port = {router}
store_path = {where}/store
[http-api]
bind = 127.0.0.1
port = {http}
[jcli]
bind = 127.0.0.1
port = {jcli}
authentication = False
[redis-client]
host = 127.0.0.1
port = {redis}
[amqp-broker]
host = {amqp_host}
port = {amqp_port}
username = {amqp_user}
password = {amqp_password}
spec = {spec}
"""

# What its administrator types at jCli: a connector to the message centre, a user, and a route from one to the other.
ADMINISTRATION: tuple[tuple[str, ...], ...] = (
    (
        "smppccm -a",
        "cid sink",
        "host 127.0.0.1",
        "port {smpp}",
        "username peer",
        "password peer",
        "bind transceiver",
        "submit_throughput {cap:g}",
        "ok",
    ),
    ("group -a", "gid comuni", "ok"),
    ("user -a", "uid peer", "gid comuni", "username peer", "password {secret}", "ok"),
    ("mtrouter -a", "type DefaultRoute", "connector smppc(sink)", "rate 0.0", "ok"),
    ("smppccm -1 sink",),
)
PROMPTS = (b"jcli : ", b"> ")


def overtake(
    console: Console, *, backlog: int = BACKLOG, emergencies: int = 30, per_second: float = CAP
) -> list[Overtaking]:
    """One way: everything through the one connector, urgent texts with the highest priority."""
    programs, redis_server = environment("jasmin", console), program("redis-server", "redis-server", console)
    versions = pinned("jasmin", "jasmin", "Twisted") | {"redis": package_version("redis-server")}
    where = folder("jasmin")
    for name in ("store", "log"):
        (where / name).mkdir(exist_ok=True)
    names = ("smpps", "smpps_pb", "clients", "router", "http", "jcli", "redis")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    secret = token_hex(4)  # Jasmin takes 8 characters at most

    def url(to: str, text: str, priority: int = 0) -> str:
        asked = {"username": "peer", "password": secret, "to": to.lstrip("+"), "content": text, "priority": priority}
        return f"http://127.0.0.1:{ports['http']}/send?{urlencode(asked)}"

    def say(to: str, text: str) -> None:
        urllib.request.urlopen(url(to, text, HIGHEST), timeout=60).close()

    with ExitStack() as stack:
        smpp, sink = stack.enter_context(smpp_sink())
        broker = stack.enter_context(rabbitmq(where, None))
        redis = server("redis", [redis_server, *f"--port {ports['redis']} --bind 127.0.0.1 --save".split(), ""], where)
        stack.enter_context(running("Redis", [redis], lambda: listens(ports["redis"])))
        told = {"LOG_PATH": str(where / "log"), "CONFIG_PATH": str(where), "STORE_PATH": str(where / "store")}
        file = _configuration(where, programs, broker, ports)
        daemon: list[str | Path] = [programs / "python", programs / "jasmind.py", "-c", file]
        stack.enter_context(running("Jasmin", [server("jasmind", daemon, where, told)], lambda: listens(ports["jcli"])))
        _administer(ports["jcli"], {"smpp": smpp, "cap": per_second, "secret": secret})
        seconds = take_in("jasmin", backlog, url)
        settings = SETTINGS.format(cap=per_second)
        return [overtaking("jasmin", "", settings, versions, (backlog, seconds), say, sink, emergencies)]


def _configuration(where: Path, programs: Path, broker: str, ports: dict[str, int]) -> Path:
    amqp, file = urlsplit(broker), where / "jasmin.cfg"
    library = next((programs.parent / "lib").glob("python3*")) / "site-packages"
    file.write_text(
        CONFIGURATION.format(
            where=where,
            spec=library / "txamqp" / "specs" / "standard" / "amqp0-9-1.stripped.xml",
            amqp_host=amqp.hostname,
            amqp_port=amqp.port,
            amqp_user=unquote(amqp.username or ""),
            amqp_password=unquote(amqp.password or ""),
            **ports,
        )
    )
    file.chmod(0o600)
    return file


def _administer(port: int, told: dict[str, object]) -> None:
    """Type it. Raises RuntimeError with what jCli answered where that is not a success."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        _type(line, [""])  # the first prompt comes after the first line
        for entry in ADMINISTRATION:
            said = _type(line, [word.format_map(told) for word in entry])
            if b"Success" not in said:
                raise RuntimeError(f"Jasmin did not take `{entry[0]}`: {said.decode(errors='replace')}")


def _type(line: socket.socket, words: Sequence[str]) -> bytes:
    for word in words:
        line.sendall(word.encode() + b"\r\n")
        said = _answer(line)
    return said


def _answer(line: socket.socket) -> bytes:
    """All up to the next prompt."""
    said = b""
    while not said.endswith(PROMPTS):
        more = line.recv(4096)
        if not more:
            raise RuntimeError(f"Jasmin's jCli hung up after: {said.decode(errors='replace')}")
        said += more
    return said
