"""Whose word a document is: signed with a comune's key, believed only by a certificate pinned beforehand."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.exceptions import InvalidInput, InvalidSignature, SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

DSIG = "http://www.w3.org/2000/09/xmldsig#"
ENVELOPED = f"{DSIG}enveloped-signature"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"

MOST_BYTES = 2_000_000
"""Of a document whose signature is looked at. Canonical XML is built several times over, in memory."""

MOST_CERTIFICATES = 10
"""Inside one signature: the signer's and those above it."""

SMALLEST_RSA, LARGEST_RSA = 2048, 8192
"""Bits. A larger one costs its verifier more than its sender."""

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

CANONICAL = frozenset(
    {
        EXCLUSIVE,
        f"{EXCLUSIVE}WithComments",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2006/12/xml-c14n11#WithComments",
    }
)
SIGNATURES = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
DIGESTS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})

INSIDE = frozenset({DSIG, "http://www.w3.org/2009/xmldsig11#", EXCLUSIVE})
"""The namespaces a signature is made of. Nothing covers what stands inside it: there is no room for an info there."""

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SignatureState(Enum):
    """What a signature is worth to us.

    `VALID`: made over the whole of the document, by a certificate that is pinned and in its time. `BAD`: the
    document or the signature was changed after signing. `EXPIRED`: as valid, but the pinned certificate is not
    in its time. `UNKNOWN_CERTIFICATE`: made by somebody nobody has pinned. `UNVERIFIABLE`: in a way that we
    cannot, or will not, check, as the XAdES of the Dipartimento and everything with SHA-1.
    """

    UNSIGNED = "unsigned"
    VALID = "valid"
    BAD = "bad"
    EXPIRED = "expired"
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    UNVERIFIABLE = "unverifiable"

    def __str__(self) -> str:
        return self.value


class SigningFailed(Exception):
    """The document is not signed, and says why; nobody publishes it unsigned in its place."""


class UnreadableCertificate(ValueError):
    """A certificate that was to be pinned is no PEM certificate."""


# ── signing ─────────────────────────────────────────────────────────────────────────────────────────


class Signer:
    """A comune's key and the certificate that goes into every document it signs. Prints neither."""

    def __init__(self, key_pem: bytes, certificate_pem: bytes) -> None:
        """The certificate first, then the ones above it. Raises SigningFailed where key and certificate differ."""
        self._key = _private_key(key_pem)
        self._chain = _chain(certificate_pem)
        certificate = self._chain[0]
        if certificate.public_key() != self._key.public_key():
            raise SigningFailed(
                f"the certificate of {_whose(certificate)} is of another key: give the two that were made together"
            )

    def sign(self, xml: bytes, now: datetime) -> bytes:
        """The document with an enveloped signature as its last child. Raises SigningFailed.

        RSA or ECDSA with SHA-256 over exclusive canonical XML; the certificates are inside. What was signed is
        verified before it is returned.
        """
        certificate = self._chain[0]
        if not _in_its_time(certificate, now):
            raise SigningFailed(
                f"the certificate of {_whose(certificate)} is valid from {certificate.not_valid_before_utc:%d.%m.%Y} "
                f"to {certificate.not_valid_after_utc:%d.%m.%Y}: renew it, or switch signing off"
            )
        root = parsed(xml)
        if root is None or signatures_in(root):
            raise SigningFailed("this is no unsigned XML document of ours: write it anew, then sign it")
        is_rsa = isinstance(self._key, rsa.RSAPrivateKey)
        signer = XMLSigner(
            method=SignatureConstructionMethod.enveloped,
            signature_algorithm=SignatureMethod.RSA_SHA256 if is_rsa else SignatureMethod.ECDSA_SHA256,
            digest_algorithm=DigestAlgorithm.SHA256,
            c14n_algorithm=EXCLUSIVE,
        )
        try:
            signed = signer.sign(root, key=self._key, cert=list(self._chain))
        except (SignXMLException, ValueError, UnsupportedAlgorithm) as error:
            raise SigningFailed(f"the key of {_whose(certificate)} did not sign: {error}") from error
        raw: bytes = etree.tostring(signed, xml_declaration=True, encoding="UTF-8")
        if (state := _by_certificate(raw, certificate)) is not SignatureState.VALID:
            raise SigningFailed(f"what the key of {_whose(certificate)} signed is {state} when it is verified")
        return raw

    def __repr__(self) -> str:
        return f"Signer({_whose(self._chain[0])})"


def _private_key(pem: bytes) -> Key:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise SigningFailed("the key is locked with a passphrase: give it without, for its owner alone") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningFailed("the key is none in PEM form: it begins with -----BEGIN PRIVATE KEY-----") from None
    if isinstance(key, Key) and _verifiable(key.public_key()):
        return key
    raise SigningFailed(
        f"the key is none that readers of CAP can verify: take ECDSA P-256, or RSA of {SMALLEST_RSA} bits or more"
    )


def _verifiable(key: object) -> bool:
    match key:
        case rsa.RSAPublicKey():
            return SMALLEST_RSA <= key.key_size <= LARGEST_RSA
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, CURVES)
        case _:
            return False


def _chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise SigningFailed("the certificate is none in PEM form: it begins with -----BEGIN CERTIFICATE-----") from None


# ── verifying ───────────────────────────────────────────────────────────────────────────────────────


def verify(raw: bytes, pinned: Sequence[bytes], now: datetime) -> SignatureState:
    """What the signature of a document is worth, by certificates (PEM) pinned for whoever is said to have sent it.

    The certificate inside a document never vouches for it: it only tells a stranger's signature from a broken one.
    A valid signature covers all that a reader of these bytes finds, its order and its every letter; not the blanks
    between two elements, which say nothing.
    Raises UnreadableCertificate for what is pinned and is none.
    """
    trusted = [_pinned(pem) for pem in pinned]
    root = parsed(raw)
    if root is None:
        return SignatureState.UNVERIFIABLE
    found = signatures_in(root)
    if not found:
        return SignatureState.UNSIGNED
    if len(found) > 1 or not _as_we_understand_it(found[0], root):
        return SignatureState.UNVERIFIABLE
    if _comments_part_a_text(root):
        return SignatureState.BAD
    for certificate in trusted:
        if _by_certificate(raw, certificate) is SignatureState.VALID:
            return SignatureState.VALID if _in_its_time(certificate, now) else SignatureState.EXPIRED
    return _of_a_stranger(raw, found[0], trusted)


def parsed(raw: bytes) -> etree._Element | None:
    """The root of a document that is safe to walk: no document type, no entities, nothing fetched, not huge."""
    if len(raw) > MOST_BYTES:
        return None
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    info = root.getroottree().docinfo
    return None if info.internalDTD is not None or info.externalDTD is not None else root


def signatures_in(root: etree._Element) -> list[etree._Element]:
    """Every signature, wherever it stands."""
    return list(root.iter(f"{{{DSIG}}}Signature"))


def _as_we_understand_it(signature: etree._Element, root: etree._Element) -> bool:
    """Whether it is one of the whole document, in methods that are on our lists: nothing else is ever looked into."""
    references = list(signature.iter(f"{{{DSIG}}}Reference"))
    if signature.getparent() is not root or len(references) != 1 or references[0].get("URI") != "":
        return False
    transforms = _algorithms(references[0], "Transform")
    values = signature.iter(f"{{{DSIG}}}SignatureValue", f"{{{DSIG}}}DigestValue")
    return (
        transforms.count(ENVELOPED) == 1
        and len(transforms) <= 2
        and CANONICAL.issuperset(transform for transform in transforms if transform != ENVELOPED)
        and CANONICAL.issuperset(_algorithms(signature, "CanonicalizationMethod"))
        and {method.value for method in SIGNATURES}.issuperset(_algorithms(signature, "SignatureMethod"))
        and {method.value for method in DIGESTS}.issuperset(_algorithms(signature, "DigestMethod"))
        and all(value.text for value in values)
        and all(etree.QName(part).namespace in INSIDE for part in signature.iter(etree.Element))
        and next(signature.iter(f"{{{DSIG}}}Object"), None) is None
        and len(_embedded(signature)) <= MOST_CERTIFICATES
    )


def _algorithms(element: etree._Element, name: str) -> list[str]:
    return [found.get("Algorithm", "") for found in element.iter(f"{{{DSIG}}}{name}")]


def _comments_part_a_text(root: etree._Element) -> bool:
    """Canonical XML leaves comments out: one put into a text later hides its end from readers, and breaks no digest."""
    for comment in root.iter(etree.Comment):
        parent = comment.getparent()
        if parent is not None and any(text and text.strip() for text in (parent.text, *(part.tail for part in parent))):
            return True
    return False


def _by_certificate(raw: bytes, certificate: x509.Certificate) -> SignatureState:
    """VALID, BAD or UNVERIFIABLE by the key of this certificate alone, whatever else the document carries.

    Once more without the blanks between elements, which say nothing in CAP: the WMO's CAP Composer, which many
    weather services use, signs a document in one line and indents it afterwards.
    """
    state = _of_these_bytes(raw, certificate)
    return _of_these_bytes(_in_one_line(raw), certificate) if state is SignatureState.BAD else state


def _of_these_bytes(raw: bytes, certificate: x509.Certificate) -> SignatureState:
    try:
        if not _verifiable(certificate.public_key()):
            return SignatureState.UNVERIFIABLE
        config = SignatureConfiguration(
            location="./",
            signature_methods=SIGNATURES,
            digest_algorithms=DIGESTS,
            ignore_ambiguous_key_info=True,
            # Its time is a question of its own: this one is whether the document is as it was signed.
            verification_time=certificate.not_valid_before_utc,
        )
        result = XMLVerifier().verify(raw, x509_cert=certificate, expect_config=config)
    except (InvalidSignature, etree.DocumentInvalid):  # a digest with an impossible last letter is not even XML-DSig
        return SignatureState.BAD
    except (InvalidInput, etree.LxmlError, SignXMLException, ValueError, UnsupportedAlgorithm):
        return SignatureState.UNVERIFIABLE
    covered = isinstance(result, VerifyResult) and result.signed_xml is not None and _is_all_of(result.signed_xml, raw)
    return SignatureState.VALID if covered else SignatureState.BAD


def _in_one_line(raw: bytes) -> bytes:
    root = parsed(raw)
    if root is None:
        return raw
    for element in root.iter(etree.Element):
        if len(element) and not (element.text or "").strip():
            element.text = None
        for child in element:
            if not (child.tail or "").strip():
                child.tail = None
    return etree.tostring(root)


def _is_all_of(signed: etree._Element, raw: bytes) -> bool:
    """Whether what was verified is the document without its signature, and not some part of it."""
    root = parsed(raw)
    if root is None:
        return False
    for signature in signatures_in(root):
        _cut(signature)
    return _canonical(root) == _canonical(signed)


def _cut(element: etree._Element) -> None:
    """The element is gone, the text behind it stays."""
    parent, before = element.getparent(), element.getprevious()
    if parent is None:
        return
    if element.tail and before is not None:
        before.tail = (before.tail or "") + element.tail
    elif element.tail:
        parent.text = (parent.text or "") + element.tail
    parent.remove(element)


def _canonical(root: etree._Element) -> bytes:
    return etree.tostring(root, method="c14n", exclusive=True, with_comments=False)


def _of_a_stranger(raw: bytes, signature: etree._Element, trusted: Sequence[x509.Certificate]) -> SignatureState:
    embedded = _embedded(signature)
    if not embedded:
        return SignatureState.BAD if trusted else SignatureState.UNVERIFIABLE
    try:
        signer = x509.load_pem_x509_certificate(_pem(embedded[0]))
    except ValueError:
        return SignatureState.UNVERIFIABLE
    if signer in trusted:
        return SignatureState.BAD
    state = _by_certificate(raw, signer)
    return SignatureState.UNKNOWN_CERTIFICATE if state is SignatureState.VALID else state


def _embedded(signature: etree._Element) -> list[str]:
    return [found.text or "" for found in signature.iter(f"{{{DSIG}}}X509Certificate")]


def _pem(base64: str) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % base64.strip().encode("ascii", "replace")


def _pinned(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise UnreadableCertificate(
            "a pinned certificate is none in PEM form: it begins with -----BEGIN CERTIFICATE-----"
        ) from None


def _in_its_time(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now.astimezone(UTC) <= certificate.not_valid_after_utc


def _whose(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "nobody"
