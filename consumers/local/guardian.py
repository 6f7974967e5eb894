"""Stays with a server to the end, and sees that the end comes: Ctrl-C, SIGTERM or kill -9 of who started it.

A program of its own, with the standard library only, so that it is up in a few hundredths of a second. It
becomes the adoptive parent of everything its servers start (RabbitMQ's epmd likes to make itself a daemon),
listens on standard input, and ends when a second line or the end of the stream comes, when its own parent
is gone, or when a server left by itself:

    stop, end of stream    each server gets its polite signal, last started first; SIGKILL after the grace
    kill                   SIGKILL to all at once: a power cut

Linux only, as are the private servers: elsewhere there is Docker.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_LISTEN = 0.5  # seconds between two looks at parent and servers

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_guardian() -> None:
    """Run in the child after it changed user: a change of user would clear it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _start(server: dict[str, Any]) -> subprocess.Popen[bytes]:
    who: dict[str, Any] = {}
    if server["user"] is not None:
        who = {"user": server["user"], "group": server["group"], "extra_groups": []}
    with Path(server["log"]).open("ab") as log:
        return subprocess.Popen(
            server["command"],
            env=server["environment"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_guardian,
            **who,
        )


def _descendants() -> list[int]:
    """Everything that stems from us, living or not yet buried."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we read
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    family = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sorted(family - {os.getpid()})


def _bury() -> None:
    """Take leave of adopted children that ended; those of Popen included, nobody asks for their status."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _kill_all() -> None:
    while family := _descendants():
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went first
        time.sleep(0.01)
        _bury()


def _is_running(pid: int) -> bool:
    _bury()
    return Path(f"/proc/{pid}").exists()


def _stop(started: list[tuple[int, dict[str, Any]]]) -> None:
    for pid, server in reversed(started):
        if _is_running(pid):
            os.kill(pid, server["signal"])
        deadline = time.monotonic() + float(server["grace"])
        while _is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    _kill_all()


def _wait_for_the_end(parent: int, pids: list[int]) -> bool:
    """True when the end is to be a polite one."""
    while True:
        if select.select([0], [], [], _LISTEN)[0]:
            return os.read(0, 16).strip() != b"kill"
        if os.getppid() != parent or not all(_is_running(pid) for pid in pids):
            return True


def main() -> None:
    """`guardian.py PARENT FOLDER`: the parent's process id, and a folder for who reads a list of processes.

    What to run comes as the first line of standard input, in JSON: others can read a command line, and the
    environments in there hold passwords.
    """
    parent = int(sys.argv[1])
    with open(0, "rb", buffering=0, closefd=False) as line:  # unbuffered: the next line is for select
        servers = json.loads(line.readline())
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    started: list[tuple[int, dict[str, Any]]] = []
    politely = True
    try:
        for server in servers:
            started.append((_start(server).pid, server))  # noqa: PERF401 - if one fails, those before are in the list
        politely = _wait_for_the_end(parent, [pid for pid, _ in started])
    finally:
        if politely:
            _stop(started)
        else:
            _kill_all()


if __name__ == "__main__":
    main()
