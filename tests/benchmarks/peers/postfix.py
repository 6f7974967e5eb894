"""Postfix, as a comune's own mail server: takes mail on a port of this machine, and sends none on."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from consumers.local.serving import free_port
from tests.benchmarks.peers.programs import listens, program, running, server

DOMAIN = "cittadini.example"

# Whom it knows is told by `mailboxes`, what it does with their mail by `transport`. It never looks anything up in DNS.
MAIN = """\
compatibility_level = 3.6
queue_directory = {where}/spool
data_directory = {where}/data
command_directory = {commands}
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = posta.fornacette.example
mydestination =
mynetworks = 127.0.0.0/8
default_transport = error:nothing leaves this machine
disable_dns_lookups = yes
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = {mailboxes}
virtual_mailbox_base = {where}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_transport = {transport}
message_size_limit = 5000000
smtpd_client_connection_count_limit = 100
"""
MASTER = """\
{port} inet n - n - 100 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running one. `mail` holds a Maildir for each mailbox it was told of."""

    url: str
    mail: Path


@contextmanager
def postfix(console: Console, *mailboxes: str) -> Iterator[Postfix]:
    """It takes mail for these mailboxes of DOMAIN, or for any where none is named, which it throws away.

    Raises:
        NoPeer: it is not installed, and cannot be.
        ServerDied: it did not come up; with the end of its log.
    """
    run = program("postfix", "postfix", console)
    where = Path(tempfile.mkdtemp(prefix="allerta-postfix-", dir="/var/tmp"))  # where its users get
    where.chmod(0o755)
    config, mail = where / "config", where / "mail"
    for folder in (config, where / "spool", where / "data", mail):
        folder.mkdir()
    shutil.chown(where / "data", "postfix")
    shutil.chown(mail, "nobody", "nogroup")
    known = " ".join(f"{{ {one}@{DOMAIN} = {one}/ }}" for one in mailboxes)
    port = free_port()
    told = {
        "where": where,
        "commands": run.parent,
        "domain": DOMAIN,
        "mailboxes": f"inline:{{ {known} }}" if mailboxes else "static:everybody",
        "transport": "virtual:" if mailboxes else "discard:",
        "uid": mail.stat().st_uid,
        "gid": mail.stat().st_gid,
    }
    (config / "main.cf").write_text(MAIN.format(**told))
    (config / "master.cf").write_text(MASTER.format(port=port))
    try:
        with running("postfix", [server("postfix", [run, "-c", config, "start-fg"], where)], lambda: listens(port)):
            yield Postfix(f"smtp://127.0.0.1:{port}", mail)
    finally:
        shutil.rmtree(where)
