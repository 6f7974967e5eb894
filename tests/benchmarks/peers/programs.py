"""Other people's programs, installed where they disturb nobody and gone when we are."""

import os
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from consumers.local.packages import NotInstalled, can_install, install
from consumers.local.serving import Guarded, Server
from consumers.local.stack import ROOT

PEERS = ROOT / "var" / "peers"
_WITH_SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


class NoPeer(Exception):
    """A peer cannot be had on this machine; the message says what to do."""


def folder(peer: str) -> Path:
    """Where a peer keeps its environment and its logs."""
    (PEERS / peer).mkdir(parents=True, exist_ok=True)
    return PEERS / peer


def environment(peer: str, console: Console) -> Path:
    """The `bin` of the peer's own virtual environment, made from `<peer>.txt` beside this file where it is not yet.

    Raises:
        NoPeer: pip refused; with its last lines.
    """
    asked = Path(__file__).with_name(f"{peer}.txt").read_text()
    home, made_from = folder(peer) / "venv", folder(peer) / "venv" / "made-from.txt"
    if not made_from.exists() or made_from.read_text() != asked:
        with console.status(f"{peer}: installing it from PyPI into {home.relative_to(ROOT)}"):
            venv.create(home, clear=True, with_pip=True)
            words = "install -q --disable-pip-version-check --no-deps -r /dev/stdin"
            pip: list[str | Path] = [home / "bin" / "pip", *words.split()]
            done = subprocess.run(pip, input=asked, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.splitlines()[-8:])
            raise NoPeer(f"{peer} cannot be installed on Python {sys.version.split()[0]}:\n{last}")
        made_from.write_text(asked)
    return home / "bin"


def program(name: str, package: str, console: Console) -> Path:
    """Where a program of a Debian package is; installed first where it is missing and we may.

    Raises:
        NoPeer: it is missing and cannot be installed here.
    """
    if shutil.which(name, path=_WITH_SBIN) is None:
        if not can_install():
            raise NoPeer(f"{name} is not here. As root on Debian or Ubuntu: apt-get install {package}. Then again.")
        with console.status(f"{package}: installing it with apt-get"):
            try:
                install(package)
            except NotInstalled as problem:
                raise NoPeer(str(problem)) from None
    found = shutil.which(name, path=_WITH_SBIN)
    if found is None:
        raise NoPeer(f"The package {package} is installed, but has no program {name}.")
    return Path(found)


def package_version(package: str) -> str:
    """What dpkg says of an installed package."""
    asked = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def server(name: str, command: Sequence[str | Path], where: Path, told: Mapping[str, str] | None = None) -> Server:
    """One program to run, its log in `where`."""
    log = where / f"{name}.log"
    log.unlink(missing_ok=True)
    return Server([str(word) for word in command], {**os.environ, "PYTHONPATH": str(ROOT), **(told or {})}, log)


@contextmanager
def running(what: str, servers: Sequence[Server], ready: Callable[[], bool], seconds: float = 30) -> Iterator[None]:
    """These programs while the block lasts; none outlives it, or us.

    Raises:
        ServerDied: one ended, or was not `ready` in time; with the end of the logs.
    """
    guarded = Guarded.start(servers)
    try:
        guarded.wait_until(ready, timedelta(seconds=seconds), what)
        yield
    finally:
        guarded.stop()


def listens(port: int) -> bool:
    """Whether somebody does on this port of 127.0.0.1."""
    with socket.socket() as line:
        line.settimeout(1)
        return line.connect_ex(("127.0.0.1", port)) == 0


def pinned(peer: str, *names: str) -> dict[str, str]:
    """The versions of these packages in `<peer>.txt`."""
    lines = Path(__file__).with_name(f"{peer}.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    return {name: versions[name] for name in names}
