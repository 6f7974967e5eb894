"""The key under which a comune writes to browsers (VAPID, RFC 8292): what it shows them, and what it signs."""

import base64
import binascii
import json
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

SECRET = "vapid_private_key"
"""What it is called in the secrets file."""
CURVE = ec.SECP256R1()


class WrongKey(ValueError):
    """This is no private key for VAPID. Never says what it is instead."""


class Vapid:
    """One key. Whoever loses it loses every subscription: browsers are bound to it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public_key = _base64url(point)
        """What a browser wants as its applicationServerKey."""

    @classmethod
    def read(cls, secret: str) -> "Vapid":
        """The key as most tools write it: 32 bytes in base64url, or PEM. Raises WrongKey."""
        try:
            if secret.startswith("-----BEGIN"):
                key = load_pem_private_key(secret.encode(), None)
            else:
                key = ec.derive_private_key(int.from_bytes(_32_bytes(secret), "big"), CURVE)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        # Outside of `except`: what the library raises may quote what it was given.
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
            raise WrongKey(f"the {SECRET} is no private key of the curve P-256")
        return cls(key)

    @classmethod
    def new(cls) -> "Vapid":
        return cls(ec.generate_private_key(CURVE))

    @property
    def secret(self) -> str:
        """The 32 bytes, for the secrets file."""
        return _base64url(self._key.private_numbers().private_value.to_bytes(32, "big"))

    def authorization(self, audience: str, subject: str, expires: datetime) -> str:
        """The header for one push service: who we are, and that it is we who ask."""
        claims = {"aud": audience, "exp": int(expires.timestamp()), "sub": subject}
        signed = f"{_json({'typ': 'JWT', 'alg': 'ES256'})}.{_json(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return f"vapid t={signed}.{signature}, k={self.public_key}"


def _32_bytes(secret: str) -> bytes:
    try:
        found = base64.b64decode(secret.rstrip("=") + "=" * (-len(secret.rstrip("=")) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
    if len(found) != 32:
        raise ValueError("not 32 bytes")
    return found


def _json(what: dict[str, object]) -> str:
    return _base64url(json.dumps(what, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
