"""An MQTT broker of our own: mosquitto on a port of 127.0.0.1, with its users, what each may say, and its memory."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from consumers.local.packages import wait_for_others
from consumers.local.serving import Guarded, Server, account, free_port, home, is_free, sole_use

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin")

_CONFIGURATION = """\
per_listener_settings false
listener {port} 127.0.0.1
{who}
persistence true
persistence_location {home}/
autosave_interval 1
log_dest stderr
log_type error
log_type warning
"""


class PrivateMosquitto:
    """One broker on the folder `where`. Start, stop, kill and start it again: the address stays, and what was retained.

    `users` are passwords by name; `topics` what each may do, in mosquitto's own words: `readwrite pc/050004/#`. Without
    users everybody on this machine may do everything: for trials.

    Raises:
        FileNotFoundError: no mosquitto is installed on this machine.
    """

    def __init__(self, where: Path, users: Mapping[str, str], topics: Mapping[str, Sequence[str]]) -> None:
        program = installed()
        if program is None:
            raise FileNotFoundError("mosquitto is not installed here: there is none in any known place.")
        self._program = program
        self._users = dict(users)
        self._topics = topics
        self._user = account("mosquitto")
        self._where = where
        self._home = home(where, "mosquitto", self._user)
        self._port = 0
        self._running: Guarded | None = None

    @property
    def url(self) -> str:
        """Where it is reached; known from the first start, the same after every other."""
        return f"mqtt://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def start(self, patience: timedelta = timedelta(seconds=20)) -> None:
        """Come back when it answers.

        Raises:
            ServerDied: it ended, or did not answer; with the end of its log.
            AlreadyRunning: another process runs it on the same folder.
        """
        self._home = home(self._where, "mosquitto", self._user)
        with sole_use(self._home) as held:
            self._port = self._port or self._remembered() or free_port()
            self._configure()
            command = [str(self._program), "-c", str(self._home / "mosquitto.conf")]
            environment = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
            server = Server(command, environment, self._home / "mosquitto.log", self._user)
            self._running = Guarded.start([server], held)
        try:
            self._running.wait_until(lambda: answers(self._port), patience, "mosquitto")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """An orderly end, in which it writes down what it retains. Does nothing where it does not run."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def kill(self) -> None:
        """kill -9, as in a power cut: what it has not written down since its last second is forgotten."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def forget(self) -> None:
        """Take away what it retains, of a broker that does not run."""
        (self._home / "mosquitto.db").unlink(missing_ok=True)

    def wipe(self) -> None:
        """Stop it and forget all it held."""
        self.stop()
        shutil.rmtree(self._home)

    def _configure(self) -> None:
        self._write("broker.json", json.dumps({"port": self._port}))
        known = f"allow_anonymous false\npassword_file {self._home}/passwords\nacl_file {self._home}/topics"
        who = known if self._users else "allow_anonymous true"
        self._write("mosquitto.conf", _CONFIGURATION.format(port=self._port, home=self._home, who=who))
        if self._users:
            self._write_users()

    def _write_users(self) -> None:
        rules = (f"user {name}\n" + "".join(f"topic {one}\n" for one in some) for name, some in self._topics.items())
        self._write("topics", "\n".join(rules))
        self._write("passwords", "".join(f"{name}:{password}\n" for name, password in self._users.items()))
        hashed = [str(self._program.parent.parent / "bin" / "mosquitto_passwd"), "-U", str(self._home / "passwords")]
        subprocess.run(hashed, check=True, capture_output=True)
        self._give("passwords")

    def _remembered(self) -> int | None:
        file = self._home / "broker.json"
        if not file.exists():
            return None
        port: int = json.loads(file.read_text())["port"]
        return port if is_free(port) else None

    def _write(self, name: str, content: str) -> None:
        (self._home / name).write_text(content)
        self._give(name)

    def _give(self, name: str) -> None:
        file = self._home / name
        if self._user is not None:
            shutil.chown(file, self._user)
        file.chmod(0o600)


def installed() -> Path | None:
    """The mosquitto of this machine."""
    wait_for_others()
    return next((file for place in _PLACES if (file := Path(place) / "mosquitto").is_file()), None)


def answers(port: int) -> bool:
    """Whether something on this port of 127.0.0.1 takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def broker_if_any(where: Path) -> Iterator[str]:
    """The address of a broker for trials, which goes with the block; nothing where no mosquitto is installed."""
    if installed() is None:
        yield ""
        return
    broker = PrivateMosquitto(where, {}, {})
    broker.start()
    try:
        yield broker.url
    finally:
        broker.stop()
