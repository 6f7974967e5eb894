"""No desk works from a file that would say something wrong: whatever is wrong with [desk] is named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alerting.authorities import FOLDER, AuthorityFileError, load

SANTA_FIORA = (FOLDER / "santa-fiora.toml").read_text()
Change = Callable[[str], str]


def swap(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (swap("two_way = true", "two_way = false"), "desk is for a two-way comune"),
        (swap('reminder = "10:00"', 'reminder = "23:30"'), "desk.reminder is at night"),
        (swap("answers_per_minute = 60", "answers_per_minute = 0"), "desk.answers_per_minute is not between 1 and"),
        (swap("answers_per_minute = 60", "answers_a_minute = 60"), "did you mean answers_per_minute"),
        (swap('code = "luci"', 'code = "buche"'), "desk.categories has a code twice"),
        (swap('words = ["lampione"', 'words = ["buca", "lampione"'), "'buca' is in both buche and luci"),
        (swap('"lun 9:00-12:00"', '"lunedì mattina"'), "does not fit; write a day and its hours"),
        (swap('"lun 9:00-12:00"', '"lun 9:00-9:10"'), "has no room for one appointment of 20 minutes"),
        (swap('"lun 9:00-12:00"', '"lun 9:00-12:00", "lun 11:00-13:00"'), "overlaps other hours of that day"),
        (swap('holidays = ["07-24"]', 'holidays = ["24 luglio"]'), "is no month and day"),
        (swap('holidays = ["07-24"]', 'closed = ["2027-01-06/2026-12-24"]'), "are no days"),
        (swap("minutes = 20", "minutes = 0"), "minutes is not between 5 and"),
        (swap("capacity = 2", "capacity = 0"), "capacity is not between 1 and"),
        (swap("è la segnalazione n. {numero} ({categoria})", "l'abbiamo ricevuta"), "does not mention {numero}"),
        (swap("Restano: {scelte}.", "Restano altri."), "desk.texts.gone does not mention {scelte}"),
        (swap("da qui non riusciamo ad ascoltare", "{quando} non riusciamo ad ascoltare"), "{quando}, which nothing"),
        (swap("{name}, segnalazione n.", "Segnalazione n."), "desk.texts.answer does not begin with"),
        (swap("{name}: siamo qui.", "{name}: {siamo qui."), "has braces that cannot be read"),
    ],
)
def test_what_is_wrong_with_a_desk_is_named(change: Change, finding: str, tmp_path: Path) -> None:
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "santa-fiora.toml").write_text(change(SANTA_FIORA))
    with pytest.raises(AuthorityFileError) as raised:
        load(tmp_path)
    assert any(re.search(re.escape(finding), one) for one in raised.value.findings), raised.value.findings


def test_a_comune_may_have_a_desk_without_appointments(tmp_path: Path) -> None:
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, tmp_path)
    text = re.sub(r"\[\[desk\.offices\]\].*?(?=\[desk\.texts\])", "", SANTA_FIORA, flags=re.DOTALL)
    (tmp_path / "santa-fiora.toml").write_text(text)
    desk = load(tmp_path)["santa-fiora"].desk
    assert desk is not None
    assert desk.offices == ()
