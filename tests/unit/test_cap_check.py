"""`cap check` as people and machines use it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from alerting.cap_command import app
from alerting.cap_xml.rules import Rule
from tests.unit.cap_documents import GOOD, changed, shared, told

ROOT = Path(__file__).parents[2]
ATOM = '<feed xmlns="http://www.w3.org/2005/Atom">'


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.cap"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.cap"
    file.write_bytes(changed((">Severe<", ">severe<")))
    return file


def check(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)], input=stdin)


def for_machines(*arguments: str | Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(check("--json", *arguments).stdout)
    return rows


def test_a_document_in_order_is_accepted_without_a_word_more(good: Path) -> None:
    result = check(good)
    assert result.exit_code == 0
    assert result.stdout == f"accept  {good}\n1 CAP document: 1 accept\n"


def test_a_rejected_one_is_told_with_line_rule_and_sentence_and_ends_with_1(good: Path, bad: Path) -> None:
    result = check(good, bad)
    assert result.exit_code == 1
    line = GOOD[: GOOD.index("<severity>")].count("\n") + 1
    assert (
        f"line {line}     error    value-unknown: <severity> “severe” is not on the list; write Severe" in result.stdout
    )
    assert result.stdout.endswith("2 CAP documents: 1 accept, 1 reject\n")


def test_machines_get_exactly_these_keys(bad: Path) -> None:
    line = GOOD[: GOOD.index("<severity>")].count("\n") + 1
    assert for_machines(bad) == [
        {
            "file": str(bad),
            "verdict": "reject",
            "findings": [
                {
                    "rule": "value-unknown",
                    "severity": "error",
                    "line": line,
                    "text": "<severity> “severe” is not on the list; write Severe",
                }
            ],
        }
    ]


def test_a_file_that_is_not_there_ends_with_2_and_the_others_are_checked(bad: Path, tmp_path: Path) -> None:
    result = check(tmp_path / "gone.cap", bad, tmp_path)
    assert result.exit_code == 2
    assert "gone.cap cannot be read: No such file or directory" in result.stderr
    assert "Is a directory" in result.stderr
    assert "1 CAP document: 1 reject" in result.stdout


def test_a_dash_reads_what_is_piped_in() -> None:
    result = check("-", stdin=GOOD.encode("utf-16").replace("UTF-8".encode("utf-16-le"), "UTF-16".encode("utf-16-le")))
    assert (result.exit_code, result.stdout) == (0, "accept  -\n1 CAP document: 1 accept\n")


def test_each_message_of_a_feed_has_its_number(tmp_path: Path) -> None:
    feed = tmp_path / "feed.atom"
    body = GOOD.partition("?>")[2]
    feed.write_text(f"{ATOM}{body}{body.replace('>Actual<', '>Test<')}</feed>")
    assert [(row["file"], row["verdict"]) for row in for_machines(feed)] == [
        (str(feed), "accept"),
        (f"{feed}#1", "accept"),
        (f"{feed}#2", "ignore"),
    ]
    assert check(feed).stdout.endswith("2 CAP documents: 1 accept, 1 ignore\n")


def test_a_feed_of_links_is_ignored_and_says_what_to_do(tmp_path: Path) -> None:
    feed = tmp_path / "feed.atom"
    feed.write_text(f"{ATOM}<entry><id>https://a.it/1</id></entry></feed>")
    result = check(feed)
    assert result.exit_code == 0
    assert "envelope-links-only: the Atom feed holds no CAP message itself; fetch what it links to" in result.stdout
    assert result.stdout.endswith("0 CAP documents: nothing to judge\n")


def test_notes_are_shown_to_people_who_ask(tmp_path: Path) -> None:
    file = tmp_path / "test.cap"
    file.write_bytes(changed((">Actual<", ">Test<")))
    assert "status-not-actual" not in check(file).stdout
    assert "note     status-not-actual" in check("--notes", file).stdout


def test_nothing_in_a_file_moves_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x\x1b[31m.cap"
    file.write_bytes(changed((">Severe<", ">&#x9b;31m\u202eereveS<"), ("<event>", "<event>\u2028<event>")))
    shown = check(file).stdout
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_every_rule_is_listed_with_its_sentence() -> None:
    lines = CliRunner().invoke(app, ["rules"]).stdout.splitlines()
    assert len(lines) == len(Rule)
    assert any(line.startswith("polygon-open ") and line.endswith(Rule.POLYGON_OPEN.sentence) for line in lines)


def test_it_runs_with_nothing_but_python(good: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "alerting", "cap", "check", "--json", str(good)],
        env=bare,
        cwd=good.parent,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == [{"file": str(good), "verdict": "accept", "findings": []}]


def test_all_the_real_documents_at_once() -> None:
    folder, rules = shared("cap"), shared("cap_rules")
    expected = {str(folder / row["file"]): row["verdict"] for row in told("cap/manifest.json")}
    wanted = {str(rules / row["file"]): row["expected"] for row in told("cap_rules/expected.json")}
    verdicts = {row["file"]: row["verdict"] for row in for_machines(*expected, *wanted)}
    for file, verdict in expected.items():
        assert (verdicts[file] == "reject") == (verdict in ("INVALID", "envelope with bad CAP")), file
    assert {file: verdicts[file] for file in wanted} == wanted
