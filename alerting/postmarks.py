"""What a text of ours carries that only we can have written: a way to leave, where its bounce or receipt belongs."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from alerting.sealing import Seal, WrongKey

LONGEST_TOKEN = 600
"""Letters of a way to leave: it holds an address of at most 254 bytes, sealed."""

MARK = re.compile(r"([0-9]{1,18}\.[0-9]{1,9}\.[0-9]{1,5})\.([0-9a-f]{20})", re.IGNORECASE)
"""reference.proof: at most 55 characters of the 64 a mailbox may have, and whole after somebody changes its case."""


@dataclass(frozen=True, slots=True)
class Leaver:
    """Somebody who holds a mail of ours: who wrote it, and to which address."""

    account: str
    address: str


class Postmarks:
    """Writes them and knows them again, under keys of their own. Nothing is stored; only pages of choices run out."""

    def __init__(self, key: bytes) -> None:
        self._seal = Seal(hashlib.blake2b(b"ways to leave", key=key, digest_size=32).digest())
        self._key = hashlib.blake2b(b"bounces", key=key, digest_size=32).digest()
        self._choices = Seal(hashlib.blake2b(b"pages of choices", key=key, digest_size=32).digest())
        self._receipts_key = hashlib.blake2b(b"receipts of browsers", key=key, digest_size=32).digest()

    def way_to_leave(self, account: str, address: str) -> str:
        """A token for the URL in a mail. It says nothing to whoever reads it, and another one to every mail."""
        return base64.urlsafe_b64encode(self._seal.seal(f"{account} {address}")).rstrip(b"=").decode()

    def leaver(self, token: str) -> Leaver | None:
        """Whose token that is; None for whatever we have not written."""
        if len(token) > LONGEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9_-]+", token):
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            account, _, address = self._seal.open(sealed).partition(" ")
        except (WrongKey, ValueError):  # ValueError: no base64
            return None
        return Leaver(account, address)

    def choices(self, recipient: int, until: datetime) -> str:
        """A token for the page of somebody's choices, good until then; whose it is only we can read."""
        return (
            base64.urlsafe_b64encode(self._choices.seal(f"{recipient} {int(until.timestamp())}")).rstrip(b"=").decode()
        )

    def chooser(self, token: str, now: datetime) -> int | None:
        """Whose choices that token opens now; None for whatever we have not written, and when it has run out."""
        if len(token) > LONGEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9_-]+", token):
            return None
        try:
            recipient, _, until = self._choices.open(
                base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            ).partition(" ")
            return int(recipient) if now.timestamp() < int(until) else None
        except (WrongKey, ValueError):
            return None

    def mark(self, reference: str) -> str:
        """The reference of an attempt with its proof, for a return path and a Message-ID."""
        return f"{reference}.{self._proof(reference)}"

    def references(self, text: str) -> Iterator[str]:
        """Every reference of ours in a text, in its order. Whoever wants to forge a bounce finds nothing here."""
        for found in MARK.finditer(text):
            if hmac.compare_digest(self._proof(found[1]), found[2].lower()):
                yield found[1]

    def receipt(self, reference: str) -> str:
        """The reference of an attempt with the proof by which a browser says that it has shown the text."""
        return f"{reference}.{self._proof(reference, self._receipts_key)}"

    def received(self, receipt: str) -> str | None:
        """The reference of a receipt that we gave out; None for any other."""
        found = MARK.fullmatch(receipt)
        if found is None or not hmac.compare_digest(self._proof(found[1], self._receipts_key), found[2].lower()):
            return None
        return found[1]

    def _proof(self, reference: str, key: bytes | None = None) -> str:
        return hmac.digest(key or self._key, reference.encode(), "sha256").hex()[:20]
