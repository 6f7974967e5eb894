"""Addresses at rest: sealed so that a stolen database tells nobody's number, and found by a keyed fingerprint."""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12


class Seal:
    """Seals with AES-256-GCM and fingerprints with HMAC-SHA-256, under two keys drawn from one."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(_drawn(key, b"addresses"))
        self._fingerprint_key = _drawn(key, b"fingerprints")

    def seal(self, text: str) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), None)

    def seal_bytes(self, content: bytes) -> bytes:
        """A picture, as `seal` does a text."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, content, None)

    def open_bytes(self, sealed: bytes) -> bytes:
        """What was sealed. Raises WrongKey."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], None)
        except (InvalidTag, ValueError):
            raise WrongKey(
                "something sealed does not open: ALERTING_KEY is not the key it was sealed under, or it was changed"
            ) from None

    def open(self, sealed: bytes) -> str:
        """The text. Raises WrongKey where it was sealed under another key, or changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], None).decode()
        except (InvalidTag, ValueError):  # ValueError: too short to hold even a nonce
            raise WrongKey(
                "something sealed does not open: ALERTING_KEY is not the key it was sealed under, or it was changed"
            ) from None

    def fingerprint(self, text: str) -> bytes:
        """The same 32 bytes for the same text: equality without knowledge."""
        return hmac.digest(self._fingerprint_key, text.encode(), "sha256")


class WrongKey(Exception):
    """What was sealed cannot be opened."""


def _drawn(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=key, digest_size=32).digest()
