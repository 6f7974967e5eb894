"""Who may feed us: the files that ship, and everything that can be wrong with one."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from alerting import authorities
from alerting.domain.sources import Kind, Nearness, OnError, OnWarning, Signature
from alerting.sources import SourceFileError, load
from geo.shapes import Point

PUSHED = """
title = "Unione Valdera, sala operativa"
kind = "cap"
nearness = "municipal"
enabled = true
senders = ["salaoperativa@unione.valdera.pi.it"]
amqp_user = "unione-valdera"

[speaks_of]
zones = ["Tosc-A4"]
"""
POLLED = """
title = "Regione Toscana"
kind = "cap"
nearness = "regional"
enabled = true
senders = ["allerta@regione.toscana.it"]

[speaks_of]
zones = ["Tosc-*"]

[polling]
url = "https://allerta.regione.toscana.it/cap.atom"
every_minutes = 2
"""
BULLETIN = """
title = "Dipartimento della Protezione Civile"
kind = "bulletin"
nearness = "national"
enabled = true

[polling]
url = "https://example.protezionecivile.it/latest_all.zip"
every_minutes = 5
due = "16:30"
"""


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.toml").write_text(content)
    return folder


def findings(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SourceFileError) as failure:
        load(folder)
    assert all(one in str(failure.value) for one in failure.value.findings)
    return failure.value.findings


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Regione Toscana")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(begin + timedelta(days=365))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# ── those that ship ─────────────────────────────────────────────────────────────────────────────────


def test_the_sources_that_ship_are_without_fault() -> None:
    sources = load()
    assert {name: (one.kind, one.nearness, one.enabled) for name, one in sources.items()} == {
        "dpc-criticita": (Kind.BULLETIN, Nearness.NATIONAL, True),
        "meteoalarm-italia": (Kind.CONTEXT, Nearness.NATIONAL, True),
        "regione-toscana": (Kind.CAP, Nearness.REGIONAL, False),
        "unione-valdera": (Kind.CAP, Nearness.MUNICIPAL, True),
    }


def test_the_national_bulletin_is_asked_every_five_minutes_and_due_at_half_past_four() -> None:
    polling = load()["dpc-criticita"].polling
    assert polling is not None
    assert polling.url.endswith("/files/all/latest_all.zip")
    assert (polling.every, polling.due) == (timedelta(minutes=5), time(16, 30))
    assert polling.hosts == {"raw.githubusercontent.com"}


def test_the_union_speaks_of_fornacette_and_as_its_comuni_do() -> None:
    union = load()["unione-valdera"]
    assert union.territory is not None and union.polling is None
    corners = [Point(lat, lon) for lat in (43.660, 43.675) for lon in (10.565, 10.595)]
    assert all(map(union.territory.contains, corners))
    assert not union.territory.contains(Point(43.77, 11.25))
    assert union.may_speak_as(authorities.load()["calcinaia"].sender)
    assert not union.may_speak_as("protezionecivile@comune.fucecchio.fi.it")
    assert not union.may_speak_of_zone("Tosc-A4")


def test_meteoalarm_keeps_its_disclaimer() -> None:
    assert "non sono i messaggi di allerta ufficiali" in load()["meteoalarm-italia"].disclaimer


# ── what a file may say ─────────────────────────────────────────────────────────────────────────────


def test_what_a_file_does_not_say_is_cautious(tmp_path: Path) -> None:
    source = load(write(tmp_path, valdera=PUSHED))["valdera"]
    assert (source.tolerance_m, source.longest) == (500, timedelta(hours=72))
    assert (source.on_error, source.on_warning) == (OnError.QUARANTINE, OnWarning.ACCEPT)
    assert source.signature is Signature.IF_PRESENT
    assert source.polling is None


def test_what_a_file_says_is_taken(tmp_path: Path) -> None:
    (tmp_path / "regione.pem").write_bytes(pem := certificate())
    more = """
tolerance_m = 0
longest_hours = 24
signature = "required"
on_error = "reject"
on_warning = "quarantine"
certificates = ["regione.pem"]
"""
    polling = 'hosts = ["cfr.toscana.it", "allerta.toscana.it"]\nprivate = true\nsilent_after_hours = 1.5\n'
    source = load(write(tmp_path, regione=more + POLLED + polling))["regione"]
    assert (source.tolerance_m, source.longest) == (0, timedelta(hours=24))
    assert (source.on_error, source.on_warning) == (OnError.REJECT, OnWarning.QUARANTINE)
    assert (source.signature, source.certificates) == (Signature.REQUIRED, (pem,))
    assert source.polling is not None and source.polling.private
    assert source.polling.hosts == {"cfr.toscana.it", "allerta.toscana.it"}
    assert source.polling.silent_after == timedelta(hours=1.5)


def test_a_region_speaks_of_all_its_zones_and_of_no_other(tmp_path: Path) -> None:
    region = load(write(tmp_path, regione=POLLED))["regione"]
    assert region.may_speak_of_zone("Tosc-A4") and region.may_speak_of_zone("Tosc-B")
    assert not region.may_speak_of_zone("Ligu-A")
    assert not region.may_speak_of_zone("tosc-A4")


def test_links_stay_on_the_feeds_own_host_unless_it_says_otherwise(tmp_path: Path) -> None:
    polling = load(write(tmp_path, regione=POLLED))["regione"].polling
    assert polling is not None and polling.hosts == {"allerta.regione.toscana.it"}


def test_a_folder_without_files_feeds_nobody(tmp_path: Path) -> None:
    assert load(tmp_path) == {}


def test_a_folder_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    assert "there is no such folder" in findings(tmp_path / "fonti")[0]


# ── what is wrong with one ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (PUSHED, 'title = "Unione Valdera, sala operativa"', "", "title is missing"),
        (PUSHED, 'kind = "cap"', 'kind = "rss"', "write cap or bulletin or context"),
        (PUSHED, 'nearness = "municipal"', 'nearness = "near"', "write national or regional or municipal"),
        (PUSHED, "enabled = true", 'enabled = "yes"', "enabled is not true or false"),
        (PUSHED, '["salaoperativa@unione.valdera.pi.it"]', "[]", "senders needs at least one text"),
        (PUSHED, "salaoperativa@", "sala operativa@", "a sender of CAP"),
        (PUSHED, 'zones = ["Tosc-A4"]', "", "may not speak of any place"),
        (PUSHED, "[speaks_of]", "[speaks]", "speaks_of is missing"),
        (PUSHED, '"Tosc-A4"', '"A4"', "Tosc-A4, Tosc-*"),
        (PUSHED, '"Tosc-A4"', '"*"', "Tosc-A4, Tosc-*"),
        (PUSHED, "zones", "zonez", "did you mean zones?"),
        (PUSHED, "[speaks_of]", '[speaks_of]\ncomuni = ["Calcinaia"]', "six digits"),
        (
            PUSHED,
            "[speaks_of]",
            "[speaks_of]\noutline = [[10.5, 43.6], [10.6, 43.6], [10.6, 43.7]]",
            "speaks_of.outline",
        ),
        (PUSHED, "[speaks_of]", "tolerance_m = -1\n[speaks_of]", "tolerance_m is not between 0 and 20000"),
        (PUSHED, "[speaks_of]", "longest_hours = 0\n[speaks_of]", "longest_hours is not between 0 and 744"),
        (PUSHED, "[speaks_of]", "longest_hours = 9e9\n[speaks_of]", "longest_hours is not between 0 and 744"),
        (PUSHED, "[speaks_of]", 'signature = "required"\n[speaks_of]', "no certificates are pinned"),
        (PUSHED, "[speaks_of]", 'on_error = "accept"\n[speaks_of]', "write quarantine or reject"),
        (PUSHED, "[speaks_of]", 'certificates = ["no.pem"]\n[speaks_of]', "'no.pem' cannot be read (No such file"),
        (PUSHED, "[speaks_of]", 'certificates = ["../a.pem"]\n[speaks_of]', "a PEM file beside this one"),
        (PUSHED, '"unione-valdera"', '"unione valdera"', "the name of a RabbitMQ user"),
        (POLLED, "https://", "http://", "polling.url is not https"),
        (POLLED, "https://", "file://", "is not an address"),
        (POLLED, "https://", "https://regione:segreto@", "is not an address"),
        (POLLED, "toscana.it/", "toscana.it:acca/", "is not an address"),
        (POLLED, "every_minutes = 2", "every_minutes = 0.01", "polling.every_minutes is not between 1 and 1440"),
        (POLLED, "every_minutes = 2", "", "polling.every_minutes is missing"),
        (POLLED, "every_minutes", 'due = "16:30"\nevery_minutes', "polling.due is for a bulletin"),
        (POLLED, "every_minutes", 'hosts = ["https://cfr.toscana.it"]\nevery_minutes', "the name of a host"),
        (
            POLLED,
            "every_minutes",
            "silent_after_hours = -1\nevery_minutes",
            "polling.silent_after_hours is not between",
        ),
        (BULLETIN, '"16:30"', '"25:30"', "hours and minutes"),
        (BULLETIN, "enabled", 'amqp_user = "dpc"\nenabled', "amqp_user is for sources that hand in CAP"),
        (BULLETIN, "[polling]", "[poling]", "polling is missing"),
    ],
)
def test_a_flaw_is_named_with_what_to_do(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    assert old in file
    assert any(
        said in one and one.startswith("fonte.toml: ")
        for one in findings(write(tmp_path, fonte=file.replace(old, new, 1)))
    )


def test_all_flaws_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    bad = PUSHED.replace("title", "titolo").replace("Tosc-A4", "A4")
    told = findings(write(tmp_path, uno=bad, due="title = ", regione=POLLED))
    assert [one.partition(":")[0] for one in told] == ["due.toml", "uno.toml", "uno.toml", "uno.toml"]


def test_a_certificate_that_is_none_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "regione.pem").write_text("-----BEGIN CERTIFICATE-----\nFornacette\n-----END CERTIFICATE-----\n")
    told = findings(write(tmp_path, regione='certificates = ["regione.pem"]\n' + POLLED))
    assert "it is no certificate in PEM" in told[0]


@pytest.mark.parametrize("name", ["Regione", "regione toscana", "r" * 65])
def test_a_files_name_is_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.toml").write_text(POLLED)
    assert "the file's name is the source's name" in findings(tmp_path)[0]


def test_two_sources_have_neither_user_nor_address_in_common(tmp_path: Path) -> None:
    told = findings(write(tmp_path, a=PUSHED, b=PUSHED, c=POLLED, d=POLLED))
    assert "a.toml and b.toml: both are fed by the RabbitMQ user unione-valdera" in told[0]
    assert "c.toml and d.toml: both ask https://allerta.regione.toscana.it/cap.atom" in told[1]
