"""A server from a container image, where a Docker engine answers; it goes when we go."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

from consumers.local.serving import Guarded, Server


class NoImage(Exception):
    """The engine answers, but the image cannot be had."""


@dataclass(frozen=True, slots=True)
class Image:
    """What to run: the image, the one port of it that we want, and its environment."""

    name: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def engine_answers() -> bool:
    """Whether an engine stands behind the `docker` command. A client alone does not help."""
    return _succeeds("docker", "info")


def compose_answers() -> bool:
    """Whether `docker compose` is there too: pytest-docker needs it."""
    return engine_answers() and _succeeds("docker", "compose", "version")


@contextmanager
def container(image: Image, where: Path, answers: Callable[[int], bool]) -> Iterator[int]:
    """The port of 127.0.0.1 at which the image's server answers.

    Raises:
        NoImage: it is not on this machine and could not be fetched.
        ServerDied: it ended, or did not answer; with the end of its log.
    """
    _fetch(image.name)
    name = f"allerta-{token_hex(4)}"
    command = ["docker", "run", "--rm", "--name", name, "-p", f"127.0.0.1::{image.port}"]
    for key in image.environment:
        command += [
            "-e",
            key,
        ]  # the value comes from docker's own environment: others can read a command line
    where.mkdir(parents=True, exist_ok=True)
    log = where / f"{name}.log"
    # In the foreground: docker hands SIGTERM on to the container, and the guardian is sure to send it.
    server = Server([*command, image.name], {**os.environ, **image.environment}, log)
    running = Guarded.start([server])
    try:
        running.wait_until(
            lambda: (port := _port(name, image.port)) is not None and answers(port),
            timedelta(seconds=90),
            image.name,
        )
        port = _port(name, image.port)
        assert port is not None, "it was there a moment ago"
        yield port
    finally:
        running.stop()


def _fetch(image: str) -> None:
    if _succeeds("docker", "image", "inspect", image):
        return
    fetched = subprocess.run(["docker", "pull", "-q", image], capture_output=True, text=True, check=False)
    if fetched.returncode != 0:
        raise NoImage(f"Docker answers, but cannot fetch {image}: {fetched.stderr.strip()}")


def _port(name: str, inside: int) -> int | None:
    asked = subprocess.run(["docker", "port", name, f"{inside}/tcp"], capture_output=True, text=True, check=False)
    return int(asked.stdout.splitlines()[0].rpartition(":")[2]) if asked.returncode == 0 and asked.stdout else None


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    quiet = subprocess.DEVNULL
    try:
        return subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False  # an engine that does not answer is none
