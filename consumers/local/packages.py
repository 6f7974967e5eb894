"""Programs from Debian's and Ubuntu's own packages, without the system-wide server that comes with them."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GUARD = Path("/usr/sbin/policy-rc.d")  # asked by every maintainer script before it starts a server
_REFUSE = "#!/bin/sh\n# allerta: nothing is to be started by this installation\nexit 101\n"
_ONE_AT_A_TIME = Path("/run/allerta-apt.lock")


class NotInstalled(Exception):
    """apt refused, or this is no machine for it."""


def can_install() -> bool:
    """Whether we are root on a machine with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str) -> None:
    """Install one package and what it needs, starting nothing.

    Raises:
        NotInstalled: apt ended with an error; with its last lines.
    """
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    with _alone(), _nothing_starts():
        _run([*apt, "update"])
        _run([*apt, "install", "-y", "--no-install-recommends", package])


def wait_for_others() -> None:
    """Return when no installation of ours is under way: half a package is worse than none."""
    if _ONE_AT_A_TIME.exists():
        with _ONE_AT_A_TIME.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)


def _run(command: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-8:])
        raise NotInstalled(f"`{' '.join(command)}` ended with status {done.returncode}:\n{last}")


@contextmanager
def _alone() -> Iterator[None]:
    """Two installations at once would take away each other's guard."""
    with _ONE_AT_A_TIME.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _nothing_starts() -> Iterator[None]:
    """Put the guard in its place, and afterwards what stood there before."""
    before = (_GUARD.read_bytes(), _GUARD.stat().st_mode) if _GUARD.exists() else None
    _GUARD.write_text(_REFUSE)
    _GUARD.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            _GUARD.unlink()
        else:
            _GUARD.write_bytes(before[0])
            _GUARD.chmod(before[1])
