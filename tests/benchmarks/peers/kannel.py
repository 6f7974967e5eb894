"""Kannel, the SMS gateway of Debian: bearerbox and smsbox, bound to our message centre by SMPP."""

import urllib.request
from secrets import token_hex
from urllib.parse import urlencode

from rich.console import Console

from consumers.local.serving import free_ports
from tests.benchmarks.peers.overtaking import CAP, Overtaking, overtaking, take_in
from tests.benchmarks.peers.programs import folder, listens, package_version, program, running, server
from tests.benchmarks.peers.smpp_sink import smpp_sink

BACKLOG = 30_000
HIGHEST = 3  # sendsms takes priority 0 to 3
SETTINGS = "SMPP transceiver, throughput = {cap:g}, priority 3 of 0-3, messages stored on disk"

# SMPP and not its HTTP SMSC: the SMPP one keeps what waits in a queue ordered by priority, so it is Kannel at its best.
CONFIGURATION = """\
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = {secret}
smsbox-port = {boxes}
smsbox-interface = 127.0.0.1
box-deny-ip = "*.*.*.*"
box-allow-ip = "127.0.0.1"
store-type = file
store-location = {where}/store
log-file = {where}/bearerbox.log
log-level = 1

group = smsc
smsc = smpp
smsc-id = sink
host = 127.0.0.1
port = {smpp}
transceiver-mode = true
smsc-username = peer
smsc-password = peer
system-type = ""
throughput = {cap:g}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-file = {where}/smsbox.log
log-level = 1

group = sendsms-user
username = peer
password = {secret}
default-sender = 3933300000
max-messages = 1

group = sms-service
keyword = default
text = "Fornacette"
max-messages = 0
"""


def overtake(
    console: Console, *, backlog: int = BACKLOG, emergencies: int = 30, per_second: float = CAP
) -> list[Overtaking]:
    """One way: everything through the one connection, urgent texts with the highest priority."""
    bearerbox, smsbox = (program(name, "kannel", console) for name in ("bearerbox", "smsbox"))
    versions, where = {"kannel": package_version("kannel")}, folder("kannel")
    admin, boxes, sendsms = free_ports(3)
    secret = token_hex(16)

    def url(to: str, text: str, priority: int = 0) -> str:
        asked = {"username": "peer", "password": secret, "to": to, "text": text, "priority": priority}
        return f"http://127.0.0.1:{sendsms}/cgi-bin/sendsms?{urlencode(asked)}"

    def say(to: str, text: str) -> None:
        urllib.request.urlopen(url(to, text, HIGHEST), timeout=60).close()

    with smpp_sink() as (smpp, sink):
        for old in ("store", "store.bak", "store.new"):
            (where / old).unlink(missing_ok=True)
        told = {"admin": admin, "boxes": boxes, "sendsms": sendsms, "smpp": smpp, "secret": secret}
        file = where / "kannel.conf"
        file.write_text(CONFIGURATION.format(where=where, cap=per_second, **told))
        file.chmod(0o600)
        gateway = [server("bearerbox.out", [bearerbox, file], where)]
        front = [server("smsbox.out", [smsbox, file], where)]
        with (
            running("bearerbox", gateway, lambda: listens(boxes)),
            running("smsbox", front, lambda: listens(sendsms)),
        ):
            seconds = take_in("kannel", backlog, url)
            settings = SETTINGS.format(cap=per_second)
            return [overtaking("kannel", "", settings, versions, (backlog, seconds), say, sink, emergencies)]
