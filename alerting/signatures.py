"""Which comune signs what it publishes, and with which key: files the secrets name, read before anything is said."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from alerting.cap_xml.signing import Signer, SigningFailed
from alerting.issuing import Sign
from alerting.settings import Settings

KEY, CERTIFICATE = "key_file", "certificate_file"


def of(settings: Settings, authorities: Iterable[str]) -> Sign:
    """How the documents of these authorities are signed: `"cap.calcinaia": {"key_file": …, "certificate_file": …}`.

    Raises SigningFailed where a key is named and cannot be used: nobody must learn that at three in the morning.
    """
    signers = {code: signer for code in authorities if (signer := _signer(settings, code))}

    def sign(authority: str, document: bytes) -> bytes:
        signer = signers.get(authority)
        return document if signer is None else signer.sign(document, datetime.now(UTC))

    return sign


def _signer(settings: Settings, code: str) -> Signer | None:
    account = f"cap.{code}"
    key, certificate = settings.secrets.find(account, KEY), settings.secrets.find(account, CERTIFICATE)
    if key is None and certificate is None:
        return None
    return Signer(_read(account, KEY, key), _read(account, CERTIFICATE, certificate))


def _read(account: str, name: str, path: str | None) -> bytes:
    if path is None:
        raise SigningFailed(f"the secrets file has no {name!r} for {account}: name both files, or neither")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SigningFailed(f"{account}: {path} cannot be read: {error.strerror}") from None
