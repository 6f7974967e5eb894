"""A server of our own on this machine: started under a guardian, watched until it answers."""

import fcntl
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from secrets import randbelow

_GUARDIAN = Path(__file__).with_name("guardian.py")
_OTHERS_MAY_PASS = 0o001
_LOOK_AGAIN = 0.03  # seconds
_TIME_TO_GO = timedelta(seconds=25)


class ServerDied(Exception):
    """A server ended, or never answered; the message quotes the last lines of its log."""


class AlreadyRunning(Exception):
    """Another process runs a server on the same folder."""


@dataclass(frozen=True, slots=True)
class Server:
    """One program to run: its command, its whole environment, and how it is asked to leave."""

    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    user: str | None = None
    polite: signal.Signals = signal.SIGTERM
    grace: timedelta = timedelta(seconds=20)

    def as_json(self) -> dict[str, object]:
        """What guardian.py reads."""
        return {
            "command": list(self.command),
            "environment": self.environment,
            "log": str(self.log),
            "user": self.user,
            "group": group_of(self.user),
            "signal": int(self.polite),
            "grace": self.grace.total_seconds(),
        }


@dataclass(slots=True)
class Guarded:
    """Servers that run: they end with `stop`, with `kill`, or with the process that started them."""

    guardian: subprocess.Popen[bytes]
    logs: Sequence[Path]

    @classmethod
    def start(cls, servers: Sequence[Server], held: int | None = None) -> "Guarded":
        """Start them in this order. `held`, from `sole_use`, is kept until the last of them has gone."""
        guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARDIAN), str(os.getpid()), str(servers[0].log.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[] if held is None else [held],
        )
        assert guardian.stdin is not None
        guardian.stdin.write(json.dumps([server.as_json() for server in servers]).encode() + b"\n")
        guardian.stdin.flush()
        return cls(guardian, [server.log for server in servers])

    def wait_until(self, answers: Callable[[], bool], patience: timedelta, what: str) -> None:
        """Come back when `answers()` is true.

        Raises:
            ServerDied: the server ended first, or `patience` did.
        """
        deadline = time.monotonic() + patience.total_seconds()
        while not answers():
            if self.guardian.poll() is not None:
                raise ServerDied(f"{what} ended before it answered. {self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerDied(f"{what} did not answer within {patience}. {self._last_words()}")
            time.sleep(_LOOK_AGAIN)

    def stop(self) -> None:
        """Ask politely, insist after the grace, return when nothing is left of them."""
        self._end(b"stop\n")

    def kill(self) -> None:
        """SIGKILL to every process of theirs: a power cut."""
        self._end(b"kill\n")

    def _end(self, word: bytes) -> None:
        if self.guardian.stdin is not None and not self.guardian.stdin.closed:
            try:
                self.guardian.stdin.write(word)
                self.guardian.stdin.close()
            except BrokenPipeError:
                self.guardian.wait()  # the servers had ended by themselves, and the guardian with them
        self.guardian.wait()

    def _last_words(self) -> str:
        tails = [f"{log}:\n{_tail(log)}" for log in self.logs if log.exists() and log.stat().st_size]
        return "The end of its log, " + "\n".join(tails) if tails else "It left no log."


_handed_out: set[int] = set()


@cache
def _register() -> int:
    """A file of which each byte stands for a port: who has locked it has been handed that one."""
    file = Path(tempfile.gettempdir()) / f"allerta-ports-{os.getuid()}"
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on, nor is about to: each is handed out once while we live.

    From below the range that Linux hands out by itself (32768 and up): no outgoing connection takes the port
    of a server that is down between kill and start.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = 20_000 + randbelow(12_000)
        if port not in _handed_out and _is_ours(port) and is_free(port):
            _handed_out.add(port)
            chosen.append(port)
    return chosen


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]


def _is_ours(port: int) -> bool:
    """Whether no other process has been handed it: whoever was may begin to listen seconds later."""
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def account(name: str) -> str | None:
    """The system user to run a server as: `name` where we are root and it exists, else ourselves (None)."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return None


def group_of(user: str | None) -> int | None:
    """The group id that goes with `account`'s answer."""
    return pwd.getpwnam(user).pw_gid if user else None


def home(where: Path, kind: str, user: str | None) -> Path:
    """A folder for a server's data and logs, its own to read: `where/kind`, where its user can get there.

    Under /root or pytest's private folders another user cannot; then it is a folder of /var/tmp named after
    `where`, so that the same `where` finds the same data again.
    """
    wanted = where.resolve() / kind
    if user is not None and not _can_be_reached(wanted):
        wanted = Path("/var/tmp") / f"allerta-{kind}-{sha256(bytes(wanted)).hexdigest()[:12]}"
    wanted.mkdir(parents=True, exist_ok=True)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(wanted, entry.pw_uid, entry.pw_gid)
    wanted.chmod(0o700)
    return wanted


def _can_be_reached(folder: Path) -> bool:
    existing = next(one for one in folder.parents if one.exists())
    return all(one.stat().st_mode & _OTHERS_MAY_PASS for one in (existing, *existing.parents))


@contextmanager
def sole_use(folder: Path) -> Iterator[int]:
    """A descriptor that means: nobody else runs a server on this folder, while any process keeps it open.

    Raises:
        AlreadyRunning: another process keeps one, and still did after the time a dying server needs.
    """
    with (folder / "lock").open("w") as lock:
        deadline = time.monotonic() + _TIME_TO_GO.total_seconds()
        while True:
            try:
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"Another process runs a server on {folder}: end that one, or choose another folder."
                    ) from None
                time.sleep(_LOOK_AGAIN)
        yield lock.fileno()


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
