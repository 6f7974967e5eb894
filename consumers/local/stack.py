"""The whole system on one machine: every process of the Procfile, and simulated providers to speak to."""

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alerting import authorities, sources
from alerting.settings import Secrets
from consumers.local import trial
from consumers.local.serving import free_port

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY_WITHIN = 120.0  # seconds: each of eighteen processes takes two of one core, and tests start two towns at once
STOPS_WITHIN = 15.0

SIMULATORS = {
    "simulator-whatsapp": "python -m consumers.simulators whatsapp",
    "simulator-telegram": "python -m consumers.simulators telegram",
    "simulator-email": "python -m consumers.simulators email",
    "simulator-sms": "python -m consumers.simulators sms",
    "simulator-web-push": "python -m consumers.simulators web-push",
    "simulator-mqtt": "python -m consumers.simulators mqtt",
}


class NotReady(Exception):
    """A process did not come up; the message has the end of its log."""


@dataclass
class Process:
    """One running process of the stack."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    metrics_port: int


@dataclass
class Stack:
    """Processes started as in service, on a broker and a database that are given.

    `where` holds logs, keys and secrets. `copies` says how many of a process run, one where it says nothing.
    `whatsapp`, `telegram` and `email` are the simulators' own settings, beyond the accounts. `with_sms` gives Calcinaia
    accounts at a simulated SMSC and mail server; where that does, `mqtt` is a broker for its panels. Only who `asks`
    goes out on the network, to the sources that have an address; the others hear those who hand something in.
    """

    where: Path
    amqp: str
    database: str
    prefix: str = ""
    share_of_limit: float = 1.0
    copies: dict[str, int] = field(default_factory=dict)
    whatsapp: dict[str, object] = field(default_factory=dict)
    telegram: dict[str, object] = field(default_factory=dict)
    email: dict[str, object] = field(default_factory=dict)
    asks: bool = False
    with_sms: bool = False
    mqtt: str = ""
    api_port: int = field(default_factory=free_port)
    webhooks_port: int = field(default_factory=free_port)
    whatsapp_port: int = field(default_factory=free_port)
    telegram_port: int = field(default_factory=free_port)
    email_port: int = field(default_factory=free_port)
    smtp_port: int = field(default_factory=free_port)
    sms_port: int = field(default_factory=free_port)
    smpp_port: int = field(init=False, default_factory=free_port)
    web_push_port: int = field(default_factory=free_port)
    mqtt_port: int = field(default_factory=free_port)
    running: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.where.mkdir(parents=True, exist_ok=True)
        also = trial.EMAIL_OF_CALCINAIA + (trial.PANELS_OF_CALCINAIA if self.mqtt else "")
        with_more = self.where / "authorities"
        self.folder = trial.authorities_with_sms(with_more, also) if self.with_sms else authorities.FOLDER
        self.authorities = authorities.load(self.folder)
        self.sources = sources.FOLDER if self.asks else trial.sources_that_hand_in(self.where / "sources")
        self._credentials = trial.credentials(self.where / "secrets.json", self.authorities)
        self._key = _key(self.where / "key")

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def webhooks(self) -> str:
        """Where the providers post."""
        return f"http://127.0.0.1:{self.webhooks_port}"

    @property
    def whatsapp_url(self) -> str:
        return f"http://127.0.0.1:{self.whatsapp_port}"

    @property
    def telegram_url(self) -> str:
        return f"http://127.0.0.1:{self.telegram_port}"

    @property
    def email_url(self) -> str:
        """Where the simulated mailboxes are read; mail is taken on another port."""
        return f"http://127.0.0.1:{self.email_port}"

    @property
    def sms_url(self) -> str:
        """The SMSC's desk; SMPP is spoken at a port of its own."""
        return f"http://127.0.0.1:{self.sms_port}"

    @property
    def web_push_url(self) -> str:
        return f"http://127.0.0.1:{self.web_push_port}"

    @property
    def mqtt_url(self) -> str:
        """Where the simulated panels can be looked at."""
        return f"http://127.0.0.1:{self.mqtt_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process is told."""
        return os.environ | {
            "AMQP_URL": self.amqp,
            "DATABASE_URL": self.database,
            "ALERTING_AMQP_PREFIX": self.prefix,
            "ALERTING_KEY": self._key,
            "ALERTING_SECRETS_FILE": str(self.where / "secrets.json"),
            "ALERTING_SOURCES_FOLDER": str(self.sources),
            "ALERTING_API_PORT": str(self.api_port),
            "ALERTING_WEBHOOKS_PORT": str(self.webhooks_port),
            "ALERTING_SHARE_OF_LIMIT": str(self.share_of_limit),
            "WHATSAPP_URL": self.whatsapp_url,
            "TELEGRAM_URL": self.telegram_url,
            "EMAIL_URL": f"smtp://127.0.0.1:{self.smtp_port}",
            "ALERTING_PUBLIC_URL": self.api,  # which every mail names as the way to leave
            "SMS_URL": f"smpp://127.0.0.1:{self.smpp_port}",
            "WEB_PUSH_HOSTS": f"127.0.0.1:{self.web_push_port}",
            "MQTT_URL": self.mqtt,
            "ALERTING_AUTHORITIES_FOLDER": str(self.folder),
            "PYTHONPATH": str(ROOT),
        }

    # ── before ──────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Bring the database to the newest schema, with the authorities in it."""
        self._command("migrate")

    def token(self, name: str, role: str, authority: str | None = None) -> str:
        """A token for the API."""
        only = ["--authority", authority] if authority else []
        return self._command("token", "--name", name, "--role", role, *only).strip()

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alerting", *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise NotReady(f"`python -m alerting {words[0]}` failed:\n{done.stderr[-2000:]}")
        return done.stdout

    # ── processes ───────────────────────────────────────────────────────────────────────────────────

    def start_simulators(self) -> None:
        """The providers, with the accounts of the authorities."""
        commands = self.simulators()
        for name, command in commands.items():
            self._start(name, command)
        self.wait_ready(*commands)

    def simulators(self) -> dict[str, str]:
        """How each provider that somebody has an account with is started."""
        ports = {
            "simulator-whatsapp": self.whatsapp_port,
            "simulator-telegram": self.telegram_port,
            "simulator-email": self.email_port,
            "simulator-web-push": self.web_push_port,
        }
        if self.with_sms:
            ports["simulator-sms"] = self.sms_port
        if self.mqtt:
            ports["simulator-mqtt"] = self.mqtt_port
        return {
            name: f"{SIMULATORS[name]} --port {port} --config {self.write_simulator(name)}"
            for name, port in ports.items()
        }

    def write_simulator(self, name: str) -> Path:
        """The file of what a simulator is told."""
        known = (self.authorities, Secrets(self._credentials), self.webhooks)
        told = {
            "simulator-whatsapp": lambda: trial.whatsapp_settings(*known) | self.whatsapp,
            "simulator-telegram": lambda: trial.telegram_settings(*known) | self.telegram,
            "simulator-email": lambda: trial.email_settings(*known) | {"smtp_port": self.smtp_port} | self.email,
            "simulator-sms": lambda: trial.sms_settings(*known[:2]) | {"smpp_port": self.smpp_port},
            "simulator-web-push": lambda: trial.web_push_settings(),
            "simulator-mqtt": lambda: trial.mqtt_settings(self.authorities) | {"broker": self.mqtt},
        }[name]()
        file = self.where / f"{name}.json"
        file.write_text(json.dumps(told))
        return file

    def start(self, *names: str) -> None:
        """Start these processes of the Procfile, or all, and wait until they work."""
        commands = procfile()
        started = []
        for name in names or commands:
            for number in range(1, self.copies.get(name, 1) + 1):
                copy = name if number == 1 else f"{name}.{number}"
                if copy not in self.running:
                    self._start(copy, commands[name])
                    started.append(copy)
        self.wait_ready(*started)

    def restart(self, name: str) -> None:
        """Start a process again that was stopped or killed."""
        self.running.pop(name)
        self._start(name, procfile()[name.partition(".")[0]])
        self.wait_ready(name)

    def _start(self, name: str, command: str) -> None:
        words = command.split()
        words[0] = sys.executable
        log, metrics_port = self.where / f"{name}.log", free_port()
        with log.open("ab") as output:
            popen = subprocess.Popen(
                words,
                env=self.environment | {"METRICS_PORT": str(metrics_port)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.running[name] = Process(name, popen, log, metrics_port)

    def wait_ready(self, *names: str) -> None:
        """Return when these answer and have their connections. Raises NotReady with the end of a log."""
        give_up = time.monotonic() + READY_WITHIN
        for name in names:
            process = self.running[name]
            while not self.answers(process.name, process.metrics_port):
                if process.popen.poll() is not None or time.monotonic() > give_up:
                    raise NotReady(f"{name} did not come up:\n{process.log.read_text()[-3000:]}")
                time.sleep(0.05)

    def answers(self, name: str, metrics_port: int) -> bool:
        """Whether a process of that name works, and has its connections. The metrics of some tell."""
        match name:
            case "api":
                return b'"ok"' in fetch(f"{self.api}/v1/status")
            case "simulator-whatsapp":
                return bool(fetch(f"{self.whatsapp_url}/__sim/received"))
            case "simulator-telegram":
                return bool(fetch(f"{self.telegram_url}/__sim/received"))
            case "simulator-email":
                return bool(fetch(f"{self.email_url}/__sim/received"))
            case "simulator-sms":
                return bool(fetch(f"{self.sms_url}/__sim/received"))
            case "simulator-web-push":
                return bool(fetch(f"{self.web_push_url}/__sim/received"))
            case "simulator-mqtt":
                return bool(fetch(f"{self.mqtt_url}/__sim/panels"))
            case "feeds" | "staff":
                return bool(fetch(f"http://127.0.0.1:{metrics_port}/metrics"))
            case _:
                links = [
                    line
                    for line in fetch(f"http://127.0.0.1:{metrics_port}/metrics").splitlines()
                    if line.startswith(b"alerting_amqp_up{")
                ]
                return bool(links) and all(line.endswith(b" 1.0") for line in links)

    def kill(self, name: str) -> None:
        """kill -9, as a power cut would."""
        self.running[name].popen.kill()
        self.running[name].popen.wait()

    def stop(self) -> None:
        """SIGTERM to all, as in service; SIGKILL to who does not end in time."""
        for process in self.running.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        give_up = time.monotonic() + STOPS_WITHIN
        for process in self.running.values():
            try:
                process.popen.wait(max(0.1, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        self.running.clear()


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def procfile() -> dict[str, str]:
    """The commands of the Procfile by name."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name.strip(): command.strip() for name, _, command in (line.partition(":") for line in lines if line)}


def _key(file: Path) -> str:
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()


def fetch(url: str) -> bytes:
    """What an address of ours answers; nothing where nobody answers yet."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError):
        return b""


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """The stack, stopped at the end whatever happens."""
    try:
        yield stack
    finally:
        stack.stop()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
