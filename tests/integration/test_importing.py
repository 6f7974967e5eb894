"""Lists of people brought along: once each, never against their will, whatever the file is and whoever joins beside."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from alerting import importing, subscribing
from alerting.domain.delivery import Channel
from alerting.domain.roster import Why
from alerting.importing import Declared, Finding, Import, NoChannel, Outcome, Tally
from alerting.persistence import Database, tables
from alerting.roster_lines import NoList
from alerting.subscribing import Subscriber
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, NOW, SEAL, citizen, codes_of, count, five_comuni

BIENTINA = AUTHORITIES["bientina"]
PAPER = Declared(hashlib.sha256(b"elenco firmato").digest())
HEADER = "telefono;frazione;consenso_data;consenso_modo\n"


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, "calcinaia", "bientina") as database:
        yield database


class Brought:
    """What became of a list: the counts, and the rows that were reported."""

    def __init__(self, tally: Tally, found: list[Finding]) -> None:
        self.tally, self.found = tally, found

    def __getitem__(self, outcome: Outcome) -> int:
        return self.tally.outcomes[outcome]

    def of(self, line: int) -> tuple[Outcome, tuple[Why, ...]]:
        ((outcome, why),) = [(one.outcome, one.why) for one in self.found if one.line == line]
        return outcome, why


async def bring(town: Database, text: str | bytes, declared: Declared | None = PAPER, **how: Any) -> Brought:
    found: list[Finding] = []
    raw = text.encode() if isinstance(text, str) else text
    what = Import(how.pop("authority", CALCINAIA), declared, **how)
    tally = await importing.bring(town, io.BytesIO(raw), what, SEAL, actor="anna", now=NOW, report=found.append)
    return Brought(tally, found)


async def stored(town: Database) -> dict[str, int]:
    kinds = (tables.Recipient, tables.Address, tables.Consent, tables.Place, tables.Membership)
    async with town.read() as session:
        return {kind.__tablename__: await count(session, kind) for kind in kinds}


async def addresses(town: Database) -> list[tuple[str, str]]:
    """Who is reached where, public channels aside."""
    people = select(tables.Address).join(tables.Recipient, tables.Recipient.id == tables.Address.recipient_id)
    async with town.read() as session:
        rows = await session.scalars(people.where(tables.Recipient.is_channel.is_(False)))
        return sorted((row.account, SEAL.open(row.sealed)) for row in rows if row.sealed)


async def test_people_come_with_their_proof_and_their_frazione(town: Database) -> None:
    brought = await bring(town, HEADER + "333 1234567;Fornacette;31/05/2024;modulo cartaceo\n", None)
    assert (brought[Outcome.NEW], brought.tally.refused) == (1, 0)
    async with town.read() as session:
        (person,) = await session.scalars(select(tables.Recipient).where(tables.Recipient.is_channel.is_(False)))
        (proof,) = await session.scalars(select(tables.Consent))
        assert (person.located, person.live) == (True, True)
        assert await codes_of(session, person.id) == {"calcinaia", "calcinaia.fornacette"}
    assert (proof.what, proof.keyword, proof.given_on) == ("join", "imported: modulo cartaceo", date(2024, 5, 31))
    assert (proof.at, proof.policy_version, proof.document) == (NOW, CALCINAIA.policy.version, None)


async def test_a_document_vouches_for_all_and_its_hash_is_kept_with_each(town: Database) -> None:
    brought = await bring(town, "cellulare\n3331234567\n3331234568\n")
    assert brought[Outcome.NEW] == 2
    async with town.read() as session:
        assert set(await session.scalars(select(tables.Consent.document))) == {PAPER.document}


async def test_without_proof_nobody_comes(town: Database) -> None:
    before = await stored(town)
    brought = await bring(town, HEADER + "3331234567;Fornacette;;\n3331234568;Fornacette;31/05/2024;\n", None)
    assert brought.of(2) == brought.of(3) == (Outcome.REFUSED, (Why.NO_PROOF,))
    assert await stored(town) == before


async def test_the_same_list_again_changes_nothing(town: Database) -> None:
    text = HEADER + "".join(f"333{number:07d};Fornacette;31/05/2024;web\n" for number in range(700))
    assert (await bring(town, text, None, part=300))[Outcome.NEW] == 700
    before = await stored(town)
    again = await bring(town, text, None, part=300)
    assert (again[Outcome.NEW], again[Outcome.EXISTING]) == (0, 700)
    assert await stored(town) == before


async def test_a_list_that_broke_off_is_taken_up_where_it_was(town: Database) -> None:
    text = "telefono\n" + "".join(f"333{number:07d}\n" for number in range(700))

    class Killed(Exception):
        pass

    def dies(finding: Finding) -> None:
        if finding.line == 400:
            raise Killed

    with pytest.raises(Killed):
        what = Import(CALCINAIA, PAPER, part=300)
        await importing.bring(town, io.BytesIO(text.encode()), what, SEAL, actor="anna", now=NOW, report=dies)
    assert 300 <= len(await addresses(town)) < 700
    again = await bring(town, text, part=300)
    assert again[Outcome.NEW] + again[Outcome.EXISTING] == 700
    everybody = await addresses(town)
    assert len(everybody) == len(set(everybody)) == 700


@pytest.mark.parametrize("dry_run", [True, False])
async def test_who_had_left_is_never_brought_back(town: Database, dry_run: bool) -> None:
    await bring(town, "telefono\n3330000001\n3330000002\n")
    async with town.write() as session:
        assert await subscribing.leave(session, citizen(1), SEAL, keyword="Disattiva", now=NOW + timedelta(days=1))
    brought = await bring(
        town, HEADER + "3330000001;Fornacette;21/11/2026;modulo\n3330000002;;21/11/2026;modulo\n", dry_run=dry_run
    )
    assert brought.of(2) == (Outcome.HAS_LEFT, (Why.HAS_LEFT,))
    assert brought[Outcome.EXISTING] == 1
    assert await addresses(town) == [("whatsapp.calcinaia", "+393330000002")]


async def test_who_left_another_comune_may_be_brought_here(town: Database) -> None:
    async with town.write() as session:
        await subscribing.join(session, citizen(1, "bientina"), SEAL, keyword="ATTIVA", now=NOW)
        await subscribing.leave(session, citizen(1, "bientina"), SEAL, keyword="DISATTIVA", now=NOW)
    assert (await bring(town, "telefono\n3330000001\n"))[Outcome.NEW] == 1


async def test_who_left_by_one_address_is_not_brought_back_by_another(town: Database) -> None:
    list_of_one = "telefono;email\n3330000001;maria@esempio.it\n"
    await bring(town, list_of_one, authority=BIENTINA)
    mail = BIENTINA.channel(Channel.EMAIL)
    assert mail
    async with town.write() as session:
        await subscribing.leave(session, Subscriber(BIENTINA, mail, "maria@esempio.it"), SEAL, keyword="x", now=NOW)
    for text in (list_of_one, "telefono\n3330000001\n", "telefono;email\n3330000009;maria@esempio.it\n"):
        assert (await bring(town, text, authority=BIENTINA))[Outcome.HAS_LEFT] == 1
    assert await addresses(town) == []


async def test_who_stands_twice_comes_once_in_one_part_and_across_parts(town: Database) -> None:
    text = "telefono\n333 1234567\n+39 333 1234567\n3331234568\n0039 3331234567\n"
    for part, comune in ((100, CALCINAIA), (1, BIENTINA)):
        dry = await bring(town, text, part=part, authority=comune, dry_run=True)
        real = await bring(town, text, part=part, authority=comune)
        assert dry.tally.outcomes == real.tally.outcomes == {Outcome.NEW: 2, Outcome.TWICE: 2}
    assert len(await addresses(town)) == 4


async def test_a_telephone_and_a_mail_are_one_person(town: Database) -> None:
    await bring(town, "email\nmaria@esempio.it\n", authority=BIENTINA)
    brought = await bring(town, "telefono;email\n3330000001;maria@esempio.it\n", authority=BIENTINA)
    assert brought[Outcome.COMPLETED] == 1
    async with town.read() as session:
        people = select(tables.Recipient.id).where(tables.Recipient.is_channel.is_(False))
        assert len((await session.scalars(people)).all()) == 1
    assert await addresses(town) == [("email.bientina", "maria@esempio.it"), ("whatsapp.bientina", "+393330000001")]


async def test_two_who_share_a_mail_are_both_told_on_their_telephones(town: Database) -> None:
    text = "telefono;email\n3330000001;casa@esempio.it\n3330000002;casa@esempio.it\n"
    for part in (100, 1):
        brought = await bring(town, text, authority=BIENTINA, part=part)
        assert brought.of(3)[1] == (Why.ANOTHERS,)
    assert [address for _, address in await addresses(town)] == ["casa@esempio.it", "+393330000001", "+393330000002"]


async def test_a_mail_where_the_comune_has_no_mail_is_left_out_and_said(town: Database) -> None:
    brought = await bring(town, "telefono;email\n3330000001;maria@esempio.it\n;carlo@esempio.it\n")
    assert brought.of(2) == (Outcome.NEW, (Why.NO_ACCOUNT,))
    assert brought.of(3) == (Outcome.REFUSED, (Why.NO_ACCOUNT,))
    with pytest.raises(NoChannel, match="sms"):
        await bring(town, "telefono\n3330000001\n", telephone_on=Channel.SMS)


async def test_places_are_found_by_name_or_in_an_address_and_never_guessed(town: Database) -> None:
    brought = await bring(
        town,
        "telefono;indirizzo\n3330000001;Via Tosco Romagnola 12, 56012 Fornacette (PI)\n3330000002;Via Roma 1\n"
        "3330000003;fornacete\n",
    )
    assert brought.of(3) == (Outcome.NEW, (Why.PLACE_UNKNOWN,))
    async with town.read() as session:
        located = select(tables.Recipient.located).where(tables.Recipient.is_channel.is_(False))
        assert sorted(await session.scalars(located.order_by(tables.Recipient.id))) == [False, True, True]


async def test_a_strict_list_with_one_bad_row_brings_nobody(town: Database) -> None:
    before = await stored(town)
    text = "telefono\n3330000001\n0587 265442\n3330000002\n"
    brought = await bring(town, text, strict=True)
    assert (brought.tally.written, brought.of(3)) == (False, (Outcome.REFUSED, (Why.LANDLINE,)))
    assert await stored(town) == before
    brought = await bring(town, text.replace("0587 265442\n", ""), strict=True)
    assert (brought.tally.written, brought[Outcome.NEW], len(brought.found)) == (True, 2, 2)


async def test_a_dry_run_says_what_would_be_and_writes_nothing_not_even_in_the_audit(town: Database) -> None:
    text = HEADER + "3330000001;Fornacette;;\n0587 265442;;;\n3330000001;;;\n;;;\nforse;;;\n"
    async with town.read() as session:
        audited = await count(session, tables.AuditEntry)
    before = await stored(town)
    dry = await bring(town, text, dry_run=True)
    assert await stored(town) == before
    async with town.read() as session:
        assert await count(session, tables.AuditEntry) == audited
    real = await bring(town, text)
    assert dry.tally.outcomes == real.tally.outcomes
    assert dry.found == real.found


async def test_two_lists_at_once_with_the_same_people_bring_each_of_them_once(town: Database) -> None:
    numbers = [f"333{number:07d}\n" for number in range(900)]
    forward, backward = "telefono\n" + "".join(numbers), "telefono\n" + "".join(reversed(numbers))
    one, other = await asyncio.gather(bring(town, forward, part=300), bring(town, backward, part=300))
    assert one[Outcome.NEW] + other[Outcome.NEW] == 900
    everybody = await addresses(town)
    assert len(everybody) == len(set(everybody)) == 900
    async with town.read() as session:
        people = select(tables.Recipient.id).where(tables.Recipient.is_channel.is_(False))
        assert len((await session.scalars(people)).all()) == 900


async def test_whoever_leaves_while_the_list_is_taken_stays_away(town: Database) -> None:
    text = "telefono\n" + "".join(f"333{number:07d}\n" for number in range(600))
    await bring(town, text, part=300)

    async def leaves(number: int) -> None:
        async with town.write() as session:
            await subscribing.leave(session, citizen(number), SEAL, keyword="Disattiva", now=NOW)

    await asyncio.gather(bring(town, text, part=50), *(leaves(number) for number in range(0, 600, 20)))
    left = {f"+39333{number:07d}" for number in range(0, 600, 20)}
    assert not left & {address for _, address in await addresses(town)}


async def test_what_is_no_list_leaves_no_trace(town: Database) -> None:
    async with town.read() as session:
        audited = await count(session, tables.AuditEntry)
    with pytest.raises(NoList):
        await bring(town, b"PK\x03\x04 a workbook")
    async with town.read() as session:
        assert await count(session, tables.AuditEntry) == audited


async def test_the_audit_and_the_report_name_nobody(town: Database) -> None:
    found = io.StringIO()
    put = importing.report_to(found)
    text = '\ufefftelefono;email;note\n333 1234567;=HYPERLINK("x");Maria Rossi\n0587 265442;;Carlo Bianchi\n'
    what = Import(CALCINAIA, PAPER)
    await importing.bring(town, io.BytesIO(text.encode()), what, SEAL, actor="anna", now=NOW, report=put)
    async with town.read() as session:
        entries = (await session.scalars(select(tables.AuditEntry).order_by(tables.AuditEntry.number))).all()
    said = found.getvalue() + "".join(f"{one.subject} {one.details}" for one in entries)
    for word in ("1234567", "265442", "Rossi", "Carlo", "HYPERLINK"):
        assert word not in said
    assert found.getvalue().splitlines()[2].startswith("3;rifiutata;è un telefono fisso")
    begins, ends = [one for one in entries if one.action.startswith("import")]
    assert (begins.action, ends.action, ends.details["new"], ends.details["refused"]) == (
        "import begins",
        "import",
        1,
        1,
    )
    assert ends.details["document"] == PAPER.document.hex() if PAPER.document else False


def test_the_name_of_a_file_that_is_not_there_is_no_reference() -> None:
    with pytest.raises(ValueError, match="no such file"):
        importing.reference("modulo-firmato.pdf")
    assert importing.reference(" determina  123/2026 ").reference == "determina 123/2026"
    for words in ("sì", "x" * 61, ""):
        with pytest.raises(ValueError, match="letters"):
            importing.reference(words)
    with pytest.raises(ValueError, match="empty"):
        importing.document(io.BytesIO())
