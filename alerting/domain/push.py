"""A browser's push subscription: whether it is one, and where it points. A stranger sent it: nothing is believed."""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field

from alerting.domain.recipients import AddressError

HOSTS = frozenset({"fcm.googleapis.com", "updates.push.services.mozilla.com", "web.push.apple.com"})
"""The push services of Chrome and its kin, Firefox and Safari; Edge's have a name for each region."""
EDGE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+notify\.windows\.com")
LOOPBACK = "127.0.0.1"

LONGEST_ENDPOINT = 1500
"""Characters. Those of Edge have some 500."""
ENDPOINT = re.compile(
    # What a browser writes: small letters, no user, nothing encoded in the host, a path, no fragment.
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?)(?::(?P<port>[1-9][0-9]{0,4}))?)"
    r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]+"
)
BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")

# The curve P-256 (FIPS 186-5): y² = x³ - 3x + b over the field of p.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


@dataclass(frozen=True, slots=True)
class Subscription:
    """One browser of one person. Who has all of it can write to them, if they also have our key."""

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)
    origin: str

    @property
    def address(self) -> str:
        """As it is stored: one way to write it, whatever way it was sent."""
        keys = {"auth": self.auth, "p256dh": self.p256dh}
        return json.dumps({"endpoint": self.endpoint, "keys": keys}, separators=(",", ":"))


def subscription(said: object, also: frozenset[str] = frozenset()) -> Subscription:
    """What a browser's PushSubscription says, checked. `also` are hosts beside those that browsers have, for trials.

    Raises AddressError. An endpoint elsewhere would make us write to whatever server a stranger names.
    """
    if not isinstance(said, dict) or not isinstance(keys := said.get("keys"), dict):
        raise AddressError("this is no push subscription: send what PushSubscription.toJSON() gives")
    endpoint = said.get("endpoint")
    if not isinstance(endpoint, str) or len(endpoint) > LONGEST_ENDPOINT:
        raise AddressError("the endpoint is missing or too long: send what PushSubscription.toJSON() gives")
    origin = _origin(endpoint, also)
    p256dh, auth = _bytes(keys.get("p256dh"), 65, "p256dh"), _bytes(keys.get("auth"), 16, "auth")
    if not _is_on_the_curve(p256dh):
        raise AddressError("keys.p256dh is no point of the curve P-256, uncompressed")
    return Subscription(endpoint, _written(p256dh), _written(auth), origin)


def read(address: str, also: frozenset[str] = frozenset()) -> Subscription:
    """A subscription as it is stored. Raises AddressError for anything else, and for hosts that are no longer taken."""
    try:
        said = json.loads(address)
    except (ValueError, RecursionError):
        raise AddressError("this is no push subscription") from None
    found = subscription(said, also)
    if found.address != address:
        raise AddressError("this push subscription is not written as it is stored")
    return found


def _origin(endpoint: str, also: frozenset[str]) -> str:
    parts = ENDPOINT.fullmatch(endpoint)
    if parts is None:
        raise AddressError("the endpoint is no https address as browsers write it")
    host, port, origin = parts["host"], parts["port"], parts["origin"]
    if parts["scheme"] == "https" and port is None and (host in HOSTS or EDGE.fullmatch(host)):
        return origin
    named = host in also or f"{host}:{port}" in also
    if named and (parts["scheme"] == "https" or host == LOOPBACK) and (port is None or int(port) < 2**16):
        return origin
    raise AddressError("the endpoint is at none of the push services that browsers have")


def _bytes(written: object, length: int, name: str) -> bytes:
    if not isinstance(written, str) or len(written) > 2 * length or not BASE64URL.fullmatch(written):
        raise AddressError(f"keys.{name} is no base64url")
    try:
        found = base64.urlsafe_b64decode(written.rstrip("=") + "=" * (-len(written.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        raise AddressError(f"keys.{name} is no base64url") from None
    if len(found) != length:
        raise AddressError(f"keys.{name} has {len(found)} bytes, not {length}")
    return found


def _written(found: bytes) -> str:
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def _is_on_the_curve(point: bytes) -> bool:
    """Else a sender would encrypt with what no browser made, and give something of its own key away."""
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    return point[0] == 4 and x < P and y < P and (y * y - (x * x * x - 3 * x + B)) % P == 0
