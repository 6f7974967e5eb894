"""A list handed in over HTTP and at the command line: streamed, checked, answered by line, and never shown."""

import asyncio
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from alerting.persistence import tables
from consumers.local.stack import ROOT
from tests.integration.api_client import KEY, NOWHERE_TO_PUBLISH, Answer, Town, serving
from tests.integration.calcinaia import count, one_database

LIST = "Cellulare;Frazione;Consenso data;Consenso modo\n333 1234567;Fornacette;31/05/2024;modulo\n0587 265442;;;\n"


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def bring(town: Town, data: Any = LIST, who: str | None = "anna", **query: str) -> Answer:
    return await town.ask("POST", "/v1/recipients/imports", who, data=data, params=query)


async def test_a_list_is_brought_along_and_answered_by_line(town: Town) -> None:
    dry = await bring(town, dry_run="true")
    assert (dry.status, dry.body["written"], dry.body["created"], await town.rows(tables.Consent)) == (
        200,
        False,
        1,
        [],
    )
    done = await bring(town)
    assert (done.body["written"], done.body["created"], done.body["refused"]) == (True, 1, 1)
    assert done.body["rows"] == [{"line": 3, "outcome": "refused", "reasons": ["no_proof"]}]
    assert done.body["columns"] == ["telefono", "frazione", "consenso_data", "consenso_modo"]
    assert "1234567" not in json.dumps(done.body)
    assert (await bring(town)).body["existing"] == 1


async def test_a_list_is_read_as_it_arrives(town: Town) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"tele"
        yield b"fono\r"
        for number in range(1500):
            yield f"\n333{number:07d}\r".encode()

    done = await bring(town, pieces(), proof="determina 123/2026")
    assert (done.body["created"], done.body["refused"]) == (1500, 0)
    async with town.database.read() as session:
        words = set(await session.scalars(select(tables.Consent.keyword)))
    assert words == {"imported: determina 123/2026"}


async def test_the_hash_of_the_document_is_kept_and_what_is_none_is_refused(town: Town) -> None:
    proof = hashlib.sha256(b"elenco firmato")
    assert (await bring(town, b"telefono\n3331234567\n", proof_sha256=proof.hexdigest())).body["created"] == 1
    (consent,) = await town.rows(tables.Consent)
    assert bytes(consent.document) == proof.digest()
    wrong = await bring(town, proof_sha256="abc")
    assert (wrong.status, wrong.pointers) == (422, ["/proof_sha256"])
    assert (await bring(town, proof="modulo.pdf")).pointers == ["/proof"]


@one_database
async def test_what_is_no_list_is_refused_and_only_staff_of_the_comune_brings_people(town: Town) -> None:
    for raw in (b"", b"PK\x03\x04", b"3331234567\n"):
        refused = await bring(town, raw)
        assert (refused.status, "333" in refused.body["detail"]) == (422, False)
    for who in ("bruno", "carla", "dpc"):
        assert (await bring(town, who=who)).status == 403
    assert (await bring(town, who="ezio", authority="calcinaia")).status == 403
    assert (await bring(town, authority="bientina")).status == 403
    assert (await bring(town, who=None)).status == 401
    assert (await bring(town, channel="sms")).pointers == ["/channel"]
    assert not [one for one in await town.rows(tables.Recipient) if not one.is_channel]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def how(town: Town, *words: str) -> dict[str, Any]:
    environment = os.environ | {"DATABASE_URL": town.database.url, "ALERTING_KEY": KEY, "PYTHONPATH": str(ROOT)}
    return {"args": [sys.executable, "-m", "alerting", "subscribers", "import", *words], "env": environment}


def command(town: Town, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**how(town, *words), capture_output=True, text=True)


def started(town: Town, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(**how(town, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_the_command_brings_a_list_and_writes_a_report_that_names_nobody(town: Town, tmp_path: Path) -> None:
    file, paper, report = (tmp_path / name for name in ("iscritti.csv", "firmato.pdf", "esito.csv"))
    file.write_bytes("cellulare;note\n333 1234567;Niccolò\n=HYPERLINK(1);Rossi\n".encode("cp1252"))
    paper.write_bytes(b"%PDF-1.7 firmato")
    how = (str(file), "--comune", "calcinaia", "--proof", str(paper), "--report", str(report))
    dry = command(town, *how, "--dry-run")
    assert dry.returncode == 1 and "dry run" in dry.stdout
    assert await town.rows(tables.Consent) == []
    done = command(town, *how)
    assert done.returncode == 1, done.stderr
    (consent,) = await town.rows(tables.Consent)
    assert bytes(consent.document) == hashlib.sha256(paper.read_bytes()).digest()
    (_, row) = csv.reader(io.StringIO(report.read_text("utf-8-sig")), delimiter=";")
    assert row[:2] == ["3", "rifiutata"] and "formula" in row[2]
    for said in (dry.stdout, done.stdout, done.stderr, report.read_text()):
        assert "1234567" not in said and "Rossi" not in said and "HYPERLINK" not in said


async def test_a_command_that_is_killed_is_given_again_and_everybody_is_in_once(town: Town, tmp_path: Path) -> None:
    file, people = tmp_path / "iscritti.csv", 11_000
    file.write_text("cellulare\n" + "".join(f"333{number:07d}\n" for number in range(people)))
    words = (str(file), "--comune", "calcinaia", "--proof", "determina 123/2026")
    process = started(town, *words)
    async with asyncio.timeout(120):
        while not (before := await how_many(town)):
            assert process.poll() is None
            await asyncio.sleep(0.02)
    process.kill()
    process.wait()
    again = command(town, *words)
    assert again.returncode == 0, again.stderr
    assert before > 0 and await how_many(town) == people
    async with town.database.read() as session:
        assert await count(session, tables.Consent) == people


async def how_many(town: Town) -> int:
    people = select(func.count()).select_from(tables.Recipient).where(tables.Recipient.is_channel.is_(False))
    async with town.database.read() as session:
        return await session.scalar(people) or 0


@one_database
async def test_the_command_says_what_is_wrong_with_how_it_is_called(town: Town, tmp_path: Path) -> None:
    file = tmp_path / "iscritti.csv"
    file.write_text("cognome;nome\nRossi;Maria\n")
    none = command(town, str(file), "--comune", "calcinaia")
    assert (none.returncode, "Rossi" in none.stderr) == (2, False)
    assert "no line says what the columns are" in none.stderr
    missing = command(town, str(file), "--comune", "calcinaia", "--proof", "firmato.pdf")
    assert missing.returncode == 2 and "no such file" in missing.stderr
    stranger = command(town, str(file), "--comune", "pisa")
    assert stranger.returncode == 2 and "bientina" in stranger.stderr
