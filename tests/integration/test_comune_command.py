"""A new comune is a file and a command: what it still lacks, whether its accounts answer, who shares its number."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from sqlalchemy import select
from typer.testing import CliRunner, Result

from alerting.authorities import FOLDER, load
from alerting.authorities.checkup import TO_FILL_IN
from alerting.authorities.online import ask
from alerting.comune_command import app
from alerting.desk.handing import Desks
from alerting.enrolling import enrol
from alerting.persistence import Database, tables
from alerting.settings import Settings
from alerting.webhooks import InboundText
from consumers.desk import Reader
from consumers.inbound import Inbound
from consumers.simulators import sms_smpp
from tests.integration.calcinaia import NOW, SEAL, one_database
from tests.integration.test_inbound import Desk

TOKEN = "700000001:questo-non-si-deve-leggere"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where one comune's file is, beside those that ship."""
    monkeypatch.delenv("ALERTING_SECRETS_FILE", raising=False)
    where = tmp_path / "comuni"
    where.mkdir()
    for file in FOLDER.glob("*.toml"):
        (where / file.name).write_text(file.read_text())
    monkeypatch.setenv("ALERTING_AUTHORITIES_FOLDER", str(where))
    yield where


def buti(folder: Path, name: str = "Comune di Buti", istat: str = "050002", number: str = "+39 347 0000000") -> Path:
    result = run("new", "--name", name, "--istat", istat, "--number", number, "--folder", str(folder))
    assert result.exit_code == 0, result.output
    return folder / f"{name.removeprefix('Comune di ').lower().replace(' ', '-')}.toml"


# ── new, and check ──────────────────────────────────────────────────────────────────────────────────


def test_a_new_file_lacks_only_what_the_comune_alone_knows(folder: Path) -> None:
    file = buti(folder)
    result = run("check", str(file))
    errors = [line for line in result.output.splitlines() if line.startswith("ERRORE")]
    assert result.exit_code == 1 and len(errors) == 9
    assert all("[da-compilare]" in line for line in errors)
    filled_in = "".join(
        line.partition("  # " + TO_FILL_IN)[0] + "\n" if TO_FILL_IN in line else line
        for line in file.read_text().splitlines(keepends=True)
    )
    file.write_text(filled_in)
    result = run("check", str(file))
    assert result.exit_code == 0, result.output
    assert "buti" in load(folder)


def test_a_file_that_is_there_is_not_written_over(folder: Path) -> None:
    file = buti(folder)
    before = file.read_text()
    result = run(
        "new", "--name", "Comune di Buti", "--istat", "050002", "--number", "+393470000000", "--folder", str(folder)
    )
    assert result.exit_code == 2 and file.read_text() == before
    nobody = run("new", "--name", "Comune di Vico", "--istat", "050002", "--number", "pronto", "--folder", str(folder))
    assert nobody.exit_code == 2 and not (folder / "vico.toml").exists()


def test_what_cannot_be_read_at_all_ends_with_2(folder: Path) -> None:
    assert run("check", str(folder / "assente.toml")).exit_code == 2
    broken = folder / "rotto.toml"
    broken.write_text("name = ")
    result = run("check", str(broken))
    assert result.exit_code == 2 and "rotto.toml" in result.output


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ('istat = "050002"', 'istat = "050004"', "both have the istat 050004"),
        ('istat = "050002"', 'istat = "999002"', "non è di nessuna provincia"),
        ('template = "avviso_comune"', 'template = "Avviso Comune"', "minuscole, cifre e _"),
        ('identity = "+393470000000"', 'identity = "+393336492690"', "nobody could tell whose"),
        ('leave = "DISATTIVA"', 'leave = "ATTIVO"', "so alike"),
        ("sender = ", 'sender = "x@posta.example" #', "valore dimostrativo"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(folder: Path, was: str, becomes: str, says: str) -> None:
    file = buti(folder)
    written = file.read_text()
    assert was in written
    file.write_text(written.replace(was, becomes))
    result = run("check", str(file))
    assert result.exit_code == 1 and says in result.output


def test_a_long_answer_costs_by_sms_what_it_costs(folder: Path) -> None:
    file = buti(folder)
    account = '[[channels]]\nname = "sms.buti"\nchannel = "sms"\nidentity = "Buti"\nper_second = 30\n'
    account += 'euro_per_text = 0.05\nsettings = { sender = "Buti", protocol = "smpp", '
    account += 'url = "smpp://sms.it:2775", user = "u" }\n'
    long = file.read_text().replace("In caso di pericolo chiama il 112.", "Chiama il 112 se c'è pericolo. " * 18, 1)
    file.write_text(long.replace("[[channels]]", account + "\n[[channels]]", 1))
    result = run("check", str(file))
    assert "texts.help: per SMS sono " in result.output and " euro ogni volta" in result.output


def test_credentials_that_are_missing_are_named_and_the_others_never_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "segreti.json"
    secrets.write_text(json.dumps({"whatsapp.buti": {"token": TOKEN}}))
    monkeypatch.setenv("ALERTING_SECRETS_FILE", str(secrets))
    result = run("check", str(buti(folder)))
    assert "mancano app_secret, verify_token per whatsapp.buti" in result.output
    assert TOKEN not in result.output


# ── the accounts ────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Providers:
    """What Meta and Telegram answer to whoever looks whether an account works."""

    number: str = "+39 333 6492690"
    status: str = "APPROVED"
    body: str = "{{1}} {{2}} {{3}} {{4}} {{5}}"
    language: str = "it"
    member: str = "administrator"
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.silent:
            await asyncio.sleep(30)
        if request.path.startswith("/bot"):
            if not request.path.startswith(f"/bot{TOKEN}/"):
                return web.json_response({"ok": False}, status=401)
            me = {"id": 7, "is_bot": True}
            result = me if request.path.endswith("getMe") else {"status": self.member, "can_post_messages": True}
            return web.json_response({"ok": True, "result": result})
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": {"code": 190, "message": request.headers["Authorization"]}}, status=401)
        if request.path.endswith("/message_templates"):
            template = {"name": "avviso_comune", "language": self.language, "status": self.status}
            return web.json_response({"data": [template | {"components": [{"type": "BODY", "text": self.body}]}]})
        health = {"entities": [{"entity_type": "WABA", "id": "77"}]}
        return web.json_response({"display_phone_number": self.number, "health_status": health})


@asynccontextmanager
async def answering(providers: Providers) -> AsyncIterator[str]:
    site = web.Application()
    site.router.add_route("*", "/{tail:.*}", providers.answer)
    runner = web.AppRunner(site)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def asked(providers: Providers, tmp_path: Path, token: str = TOKEN) -> list[str]:
    secrets = tmp_path / "segreti.json"
    secrets.write_text(json.dumps({name: {"token": token} for name in ("whatsapp.calcinaia", "telegram.calcinaia")}))
    async with answering(providers) as url:
        settings = Settings(secrets_file=secrets, whatsapp_url=url, telegram_url=url)
        found = await ask(load()["calcinaia"], settings)
    assert not any(token in one.text for one in found)
    return [one.text for one in found if one.rule in ("account", "template")]


async def test_accounts_that_work_leave_nothing_to_say(tmp_path: Path) -> None:
    providers = Providers()
    assert await asked(providers, tmp_path) == []
    assert {path.rpartition("/")[2] for path in providers.asked} == {
        "105000400000001", "message_templates", "getMe", "getChatMember",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        (Providers(number="+39 333 0000000"), "è del numero +393330000000"),
        (Providers(status="PAUSED"), "è PAUSED"),
        (Providers(body="{{1}} {{2}}"), "ha 2 variabili, non 5"),
        (Providers(language="en"), "non c'è un template 'avviso_comune' in 'it'"),
        (Providers(member="member"), "non può scrivere in"),
    ],
)
async def test_an_account_that_would_fail_at_three_in_the_morning_fails_now(
    tmp_path: Path, providers: Providers, says: str
) -> None:
    found = await asked(providers, tmp_path)
    assert len(found) == 1 and says in found[0]


async def test_a_wrong_token_is_said_and_not_shown(tmp_path: Path) -> None:
    found = await asked(Providers(), tmp_path, token="700000002:un-altro")
    assert len(found) == 2
    assert any("il token non vale più" in one for one in found) and any("non è di un bot" in one for one in found)


async def test_a_provider_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerting.authorities.online.WITHIN", 0.3)
    found = await asked(Providers(silent=True), tmp_path)
    assert len(found) == 2 and all("nessuna risposta" in one for one in found)


@pytest.mark.parametrize(("password", "says"), [("giusta", None), ("errata", "la password è sbagliata")])
async def test_an_smsc_is_asked_by_a_bind(tmp_path: Path, password: str, says: str | None) -> None:
    smsc = await sms_smpp.start({"accounts": {"calcinaia": {"password": "giusta"}}})
    account = """
[[channels]]
name = "sms.calcinaia"
channel = "sms"
identity = "Calcinaia"
per_second = 30
settings = { sender = "Calcinaia", protocol = "smpp", url = "smpp://127.0.0.1:2775", user = "calcinaia" }
"""
    (tmp_path / "calcinaia.toml").write_text((FOLDER / "calcinaia.toml").read_text() + account)
    secrets = tmp_path / "segreti.json"
    secrets.write_text(json.dumps({"sms.calcinaia": {"token": password}}))
    assert isinstance(smsc.simulator, sms_smpp.Smsc)
    settings = Settings(secrets_file=secrets, sms_url=smsc.simulator.smpp_url)
    found = await ask(load(tmp_path)["calcinaia"], settings)
    await smsc.close()
    said = [one.text for one in found if one.rule == "account"]
    assert said == [] if says is None else says in said[0]


# ── several comuni on one number ────────────────────────────────────────────────────────────────────

AMIATA = "+393663476285"
ANNA = "+393331234567"


@pytest.fixture
def two(folder: Path) -> Path:
    """Santa Fiora, and Arcidosso on its number with words of its own."""
    for file in folder.glob("*.toml"):
        if file.stem != "santa-fiora":
            file.unlink()
    theirs = buti(folder, "Comune di Arcidosso", "053001", AMIATA)
    number = tomllib.loads((folder / "santa-fiora.toml").read_text())["channels"][0]["settings"]["phone_number_id"]
    own = theirs.read_text().replace("100000000000000", number)
    theirs.write_text(own.replace('ATTIVA"\n', 'ATTIVA PIANO SICURO"\n'))
    return folder


@pytest.fixture
async def desk(database_url: str, two: Path) -> AsyncIterator[Desk]:
    everybody, database = load(two), Database(database_url)
    async with database.write() as session:
        await enrol(session, everybody.values(), SEAL, share_of_limit=1.0, now=NOW)
    yield Desk(database, Inbound(database, everybody, SEAL))
    await database.close()


async def says(desk: Desk, words: str, account: str = "whatsapp.santa-fiora") -> str | None:
    """What Anna is answered on the number, which Meta's webhook names by the account of Santa Fiora."""
    inbound = await desk.lies_in_the_inbox(words, "santa-fiora")
    async with desk.database.write() as session:
        row = await session.get_one(tables.InboundMessage, inbound)
        row.account = account
        answers = await desk.inbound.heed(session, [row])
    return answers[0].words if answers else None


@one_database
async def test_two_comuni_on_one_number_are_told_apart_by_their_words(desk: Desk, two: Path) -> None:
    amiata, arcidosso = (load(two)[code].texts for code in ("santa-fiora", "arcidosso"))
    assert await says(desk, "Attiva piano sicuro!") == arcidosso.welcome
    assert await says(desk, "c'è una frana sulla provinciale") == arcidosso.not_read
    assert await says(desk, "ATTIVA COMUNE AMICO") == amiata.welcome
    assert await says(desk, "STOP") == f"{amiata.ask_leave}\n{arcidosso.ask_leave}"
    assert await says(desk, "disattiva piano sicuro") == arcidosso.goodbye
    assert await says(desk, "STOP") == amiata.goodbye
    assert await says(desk, "c'è una frana sulla provinciale") is None  # the desk's to answer
    assert await says(desk, "STOP") == amiata.not_subscribed


@one_database
async def test_what_is_reported_on_a_shared_number_reaches_the_desk_of_the_comune_it_was_written_to(
    desk: Desk, two: Path
) -> None:
    everybody = load(two)
    (theirs,) = (access.name for access in everybody["arcidosso"].channels)
    report = InboundText("wamid.1", "", ANNA, "Buca in via Roma", "text", datetime.now(UTC))
    assert Desks(everybody).whose(theirs, report) is None  # nobody can tell at the door
    assert Desks({"santa-fiora": everybody["santa-fiora"]}).whose("whatsapp.santa-fiora", report) is not None
    await says(desk, "ATTIVA COMUNE AMICO")
    await says(desk, "Buca in via Roma", theirs)
    reader = Reader(desk.database, everybody, SEAL)
    async with desk.database.read() as session:
        rows = (await session.scalars(select(tables.InboundMessage.id))).all()
    for number in rows:
        await reader.read(number, datetime.now(UTC))
    async with desk.database.read() as session:
        (found,) = (await session.scalars(select(tables.Report))).all()
        (letter,) = (await session.scalars(select(tables.Letter))).all()
    assert (found.authority, found.account, found.category) == ("santa-fiora", "whatsapp.santa-fiora", "buche")
    assert letter.sealed is not None
    assert (letter.account, SEAL.open(letter.sealed)) == ("whatsapp.santa-fiora", ANNA)


def test_two_comuni_on_one_number_with_one_word_are_refused_by_name(folder: Path) -> None:
    file = buti(folder, number="+393336492690")
    result = run("check", str(file))
    assert result.exit_code == 1
    assert "buti.toml and calcinaia.toml" in result.output and "attiva" in result.output
