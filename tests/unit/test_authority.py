"""Five comuni as their press texts describe them, and no file from which anybody could speak wrongly."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import shapely
from shapely.geometry import shape

from alerting.authorities import FOLDER, AuthorityFileError, load
from alerting.domain.authority import AWAITED, LONGEST_TEXT, Authority, filled
from alerting.domain.delivery import Channel
from geo.areas import AreaKind
from geo.shapes import Point, km2_outside

SHARED = Path(__file__).parents[2].parent / "shared/data/geo"
COMUNI = load()

each_comune = pytest.mark.parametrize("comune", COMUNI.values(), ids=lambda comune: comune.code)

# ── the five ────────────────────────────────────────────────────────────────────────────────────────

PRESS = {
    # code: ISTAT, zone, WhatsApp, two-way, where citizens are sent instead
    "calcinaia": ("050004", "Tosc-A4", "+393336492690", False, "0587 265442"),
    "bientina": ("050001", "Tosc-A4", "+393665775490", False, "0587 758456"),
    "cascina": ("050008", "Tosc-A4", "+39335385843", False, "800 017728"),
    "fucecchio": ("048019", "Tosc-A4", "+393385368133", False, "0571 268268"),
    "santa-fiora": ("053022", "Tosc-F1", "+393663476285", True, None),
}


def test_the_five_comuni_ship_with_the_system() -> None:
    assert COMUNI.keys() == PRESS.keys()


@each_comune
def test_codes_numbers_and_contacts_are_those_of_the_press_texts(comune: Authority) -> None:
    istat, zone, number, two_way, instead = PRESS[comune.code]
    whatsapp = comune.channel(Channel.WHATSAPP)
    assert whatsapp is not None
    assert (comune.istat, comune.warning_zones, whatsapp.identity) == (istat, (zone,), number)
    assert comune.two_way is two_way
    if instead:
        assert instead in comune.texts.not_read


def test_calcinaia_speaks_on_telegram_too_and_nobody_else_does() -> None:
    telegram = COMUNI["calcinaia"].channel(Channel.TELEGRAM)
    assert telegram is not None
    assert (telegram.name, telegram.identity) == ("telegram.calcinaia", "@comunecalcinaia")
    assert telegram.settings["chat_id"] == "@comunecalcinaia"
    assert COMUNI["bientina"].channel(Channel.TELEGRAM) is None


def test_bientina_writes_mail_too_under_an_address_of_its_own() -> None:
    mail = COMUNI["bientina"].channel(Channel.EMAIL)
    assert mail is not None
    assert (mail.name, mail.identity) == ("email.bientina", "avvisi@comune.bientina.pi.it")


@each_comune
def test_accounts_start_from_the_published_limits(comune: Authority) -> None:
    published = {Channel.WHATSAPP: 80, Channel.TELEGRAM: 30, Channel.EMAIL: 10, Channel.WEB_PUSH: 200}
    assert all(access.per_second == published[access.channel] for access in comune.channels)


@each_comune
def test_every_answer_names_the_comune_first_and_is_short_enough_to_be_read(comune: Authority) -> None:
    for text in asdict(comune.texts).values():
        assert text.startswith(comune.name)
        assert len(text) <= LONGEST_TEXT
        assert set(re.findall(r"\{(.*?)\}", text)) <= AWAITED.keys()
        assert not re.search(r"[{}]", re.sub(r"\{\w+\}", "", text))


@each_comune
def test_the_welcome_links_the_policy_and_says_how_to_leave(comune: Authority) -> None:
    assert comune.policy.url in comune.texts.welcome
    assert comune.keywords.leave in comune.texts.welcome


def test_no_two_comuni_answer_with_the_same_words() -> None:
    for key in asdict(COMUNI["calcinaia"].texts):
        spoken = {getattr(comune.texts, key).removeprefix(comune.name) for comune in COMUNI.values()}
        assert len(spoken) == len(COMUNI), key


def test_the_confirmation_of_a_place_names_it() -> None:
    calcinaia = COMUNI["calcinaia"]
    (fornacette,) = calcinaia.territory.nameable.named("fornacete")
    assert "riguardano Fornacette." in filled(calcinaia.texts.place_kept, luoghi=fornacette.name)


# ── territory ───────────────────────────────────────────────────────────────────────────────────────


@each_comune
def test_frazioni_lie_inside_their_comune_and_share_no_ground(comune: Authority) -> None:
    whole = comune.territory.comune
    assert whole.kind is AreaKind.COMUNE
    assert whole.code == comune.code
    for frazione in comune.territory.frazioni:
        assert frazione.code.startswith(f"{comune.code}.")
        assert frazione.parent == comune.code
        assert km2_outside(frazione.fence, whole.fence) < 0.0001
    fences = [frazione.fence.planar for frazione in comune.territory.frazioni]
    together = shapely.union_all(fences)
    assert sum(fence.area for fence in fences) == pytest.approx(together.area, rel=1e-6)


@each_comune
def test_a_citizen_may_name_the_comune_and_its_frazioni_and_no_other_area(comune: Authority) -> None:
    territory = comune.territory
    assert territory.nameable.areas == (territory.comune, *territory.frazioni)
    assert {area.kind for area in territory.nameable.areas} == {AreaKind.COMUNE, AreaKind.FRAZIONE}


@each_comune
def test_hand_drawn_outlines_say_that_they_are(comune: Authority) -> None:
    assert all(area.demonstration and area.source for area in comune.territory.areas)


def test_fornacette_is_a_real_share_of_calcinaia_and_not_its_town() -> None:
    gazetteer = COMUNI["calcinaia"].territory.gazetteer
    fornacette = gazetteer.by_code("calcinaia.fornacette")
    share = fornacette.fence.area_km2 / gazetteer.by_code("calcinaia").fence.area_km2
    assert 0.2 < share < 0.6
    assert fornacette.fence.contains(Point(43.67, 10.585))
    assert not fornacette.fence.contains(Point(43.6835, 10.6165))


def shared(name: str) -> list[dict[str, object]]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine: outlines are compared with real ones only where it is")
    features: list[dict[str, object]] = json.loads(path.read_text())["features"]
    return features


@each_comune
def test_a_coarse_outline_covers_the_true_comune(comune: Authority) -> None:
    (true,) = (
        shape(feature["geometry"])
        for feature in shared("cinque_comuni.geojson")
        if feature["properties"]["istat"] == comune.istat  # type: ignore[index]
    )
    coarse = comune.territory.comune.fence.planar
    assert coarse.intersection(true).area / coarse.union(true).area >= 0.7


@each_comune
def test_each_frazione_holds_the_point_it_is_known_by(comune: Authority) -> None:
    named = {frazione.name.removesuffix(" capoluogo"): frazione for frazione in comune.territory.frazioni}
    found = set()
    for feature in shared("frazioni_punti.geojson"):
        properties, geometry = feature["properties"], shape(feature["geometry"])
        if properties["istat"] == comune.istat and properties["name"] in named:  # type: ignore[index]
            name = properties["name"]  # type: ignore[index]
            assert named[name].fence.contains(Point(geometry.y, geometry.x)), name
            found.add(name)
    assert found == named.keys()


# ── files nobody may speak from ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, tmp_path)
    return tmp_path


Change = Callable[[str], str]


def swap(old: str, new: str) -> Change:
    def change(content: str) -> str:
        assert old in content, f"{old!r} is not in the file any more: this test would test nothing"
        return content.replace(old, new, 1)

    return change


def sms(**settings: str) -> Change:
    """An account for SMS at the end of a file; whatever is given as empty is left out."""
    right = {"sender": "Calcinaia", "protocol": "smpp", "url": "smpp://smsc.example:2775", "user": "calcinaia"}
    said = ", ".join(f'{key} = "{value}"' for key, value in (right | settings).items() if value)
    account = 'channel = "sms"\nname = "sms.calcinaia"\nidentity = "Calcinaia"\nper_second = 30'
    return lambda content: f"{content}\n[[channels]]\n{account}\nsettings = {{ {said} }}\n"


def named(parameters: str) -> Change:
    """The template's variables called by these names."""
    return swap("template_language", f'template_parameters = "{parameters}", template_language')


def findings(folder: Path, file: str, change: Change) -> tuple[str, ...]:
    path = folder / file
    path.write_text(change(path.read_text()))
    with pytest.raises(AuthorityFileError) as refused:
        load(folder)
    return refused.value.findings


FORNACETTE = "    [43.676, 10.607], [43.660, 10.603], [43.664, 10.591]"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (swap('istat = "050004"\n', ""), "calcinaia.toml: istat is missing; write a text"),
        (swap('"050004"', '"50004"'), "istat '50004' does not fit; write the six digits"),
        (swap('"050004"', "50004"), 'istat is not a text in "quotes"'),
        (swap("two_way = false", "twoway = false"), "twoway is not a key .*; did you mean two_way"),
        (swap("two_way = false", 'two_way = "no"'), "two_way is not true or false"),
        (swap("@comune.calcinaia", " at comune.calcinaia"), "sender .* does not fit; write an address"),
        (swap("protezionecivile@", "protezione,civile@"), "sender .* without spaces, commas"),
        (swap('["Tosc-A4"]', '["A4"]'), "warning_zones 'A4' does not fit"),
        (swap('["Tosc-A4"]', "[]"), "warning_zones needs at least one"),
        (swap('language = "it"', 'language = "italiano"'), "language 'italiano' does not fit"),
        (sms(protocol="fax"), r"settings.protocol 'fax' is not known; write smpp"),
        (sms(url="https://smsc.example"), r"settings.url 'https://smsc.example' is no address of this protocol"),
        (sms(sender="Comune di Calcinaia"), r"settings.sender 'Comune di Calcinaia' is neither a number nor an alias"),
        (sms(sender="333 649 26 90"), r"settings.sender '333 649 26 90' is not in E.164; write \+393336492690"),
        (sms(user=""), "settings.user is missing; sms cannot send without it"),
        (sms(data_coding="morse"), "settings.data_coding 'morse' is not known"),
        (
            swap('"mailto:ufficio', '"ufficio'),
            "identity 'ufficio.stampa@.*' is nobody a push service can ask; write mailto:",
        ),
        (
            swap('"mailto:ufficio', '"http://ufficio'),
            "identity 'http://.*' cannot be written to|is nobody a push service",
        ),
        (
            swap('channel = "web_push"\n', 'channel = "web_push"\nsettings = { page = "avvisi.html" }\n'),
            "settings.page 'avvisi.html' does not fit; write the https",
        ),
        (sms(protocol="rest", message_type="GP"), r"'smpp://smsc.example:2775' .* begins with https://"),
        (sms(protocol="rest", url="https://api.skebby.it"), "settings.message_type '' is not known; write GP or TI"),
        (
            sms(protocol="rest", url="https://api.skebby.it", message_type="GP", authentication="oauth"),
            "settings.authentication 'oauth' is not known; write password or access-token",
        ),
        (named("comune, dove"), "settings.template_parameters has not 5 different names"),
        (named("comune, dove, quando, cosa, dove"), "settings.template_parameters has not 5 different names"),
        (
            swap("template_language", 'standby_template = "avviso_comune", template_language'),
            "settings.standby_template is the template itself",
        ),
        (swap('name = "Comune di Calcinaia"', 'name = " "'), "name is empty"),
        (swap("https://", "http://"), "policy.url .* does not fit; write an https"),
        (swap("[policy]\n", "[policy]\nhash = 'x'\n"), "policy.hash is not a key .*; remove it"),
        (swap('leave = "Disattiva"', 'leave = "Attiv4"'), "so alike that a slip of the finger"),
        (swap('leave = "Disattiva"', 'leave = "👋"'), "the keywords need at least one letter"),
        (swap('join = "Attiva"', 'join = "Basta"'), "'basta' should join and says the contrary"),
        (swap('join = "Attiva"', 'join = "Cancellami"'), "'cancellami' should join and says the contrary"),
        (
            swap('leave = "Disattiva"', 'leave = "Disattiva"\nleave_also = ["iscrivimi"]'),
            "'iscrivimi' should leave",
        ),
        (
            swap('channel = "telegram"', 'channel = "piccione"'),
            r"channels\[2\].channel 'piccione' is no channel",
        ),
        (swap("whatsapp.calcinaia", "wa1"), r"channels\[1\].name 'wa1' is not whatsapp.calcinaia"),
        (swap("per_second = 80", "per_second = 0"), r"channels\[1\].per_second is not between"),
        (swap("per_second = 80", "per_second = nan"), r"channels\[1\].per_second is not between"),
        (swap("+393336492690", "333 6492690"), "is not in E.164; write \\+393336492690"),
        (swap("+393336492690", "+39800017728"), "cannot be written to: this is a green number"),
        (swap('identity = "@comunecalcinaia"', 'identity = "123456"'), "is not a channel's name"),
        (
            swap("phone_number_id = ", "phone_id = "),
            "settings.phone_number_id is missing; whatsapp cannot send",
        ),
        (swap("{ chat_id", '{ updates = "ogni tanto", chat_id'), "updates 'ogni tanto' is not known; write webhook or"),
        (swap("{ chat_id", '{ token = "123:abc", chat_id'), "settings.token looks like a secret"),
        (swap('bot = "avvisi_calcinaia_bot"', "bot = 7"), 'settings.bot is not a text in "quotes"'),
        (swap("{name}: benvenuto", "{nome}: benvenuto"), "texts.welcome has {nome}, which nothing fills in"),
        (swap("{name}: benvenuto", "Benvenuto"), "texts.welcome does not begin with 'Comune di Calcinaia'"),
        (
            swap("benvenuto", "benvenuto" + " e ancora benvenuto" * 60),
            "texts.welcome has .* at most 1000 are read",
        ),
        (swap("informativa: {policy}", "informativa in Comune"), "texts.welcome does not mention 'https://"),
        (swap("{name}: sei già", "{name}: SEI GIÀ ISCRITTO, NON SERVE ALTRO, GRAZIE. Sei già"), "capitals"),
        (swap("{policy}\n", "{policy\n"), "texts.welcome has braces that cannot be read"),
        (swap("{name}: fatto", "{name}: {0} fatto"), "place_kept has \\{0\\}, which nothing fills in"),
        (swap("{name}: benvenuto", "{name}: {luogo}, benvenuto"), "which is known in place_point_kept only"),
        (swap("intendi {luoghi}?", "che cosa intendi?"), "texts.place_which does not mention '{luoghi}'"),
        (swap('Rispondi "{zona}"', 'Rispondi "zona"'), "texts.place_which does not mention '{zona}'"),
        (
            swap("per {luoghi}. Per dirci", "per {luoghi} {zona}. Per dirci"),
            "{zona}, which is known in place_which only",
        ),
        (swap("fatto, quel luogo", "fatto, " + "grazie " * 100 + "quel luogo"), "place_forgotten has .* at most 1000"),
        (swap("[43.705, 10.614]", "[10.614, 43.705]"), r"territory.outline: .*(latitude|exchanged|swapped)"),
        (swap("[43.705, 10.614]", "[43.705]"), "territory.outline: point 1 is not"),
        (swap("[43.705, 10.614]", '["nord", 10.614]'), "territory.outline: latitude .* is not a number"),
        (
            swap("[43.667, 10.634], [43.667, 10.625]", "[43.667, 10.625], [43.667, 10.634]"),
            "outline: .*cross",
        ),
        (swap("version = 1", "version = 0"), "territory.version is not 1 or more"),
        (
            swap(FORNACETTE, FORNACETTE.replace("43.660", "43.600")),
            "frazione Fornacette .* km² outside Calcinaia",
        ),
        (
            swap(FORNACETTE, FORNACETTE.replace("43.676, 10.607", "43.684, 10.612")),
            "capoluogo and Fornacette overlap",
        ),
        (swap('name = "Fornacette"', 'name = "calcinaia Capoluogo"'), "two frazioni are called"),
        (
            swap('code = "fornacette"', 'code = "Fornacette Sud"'),
            r"frazioni\[2\].code 'Fornacette Sud' does not",
        ),
        (swap("name =", "name ="[:-1]), "this is not TOML in UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_and_what_to_do(folder: Path, change: Change, finding: str) -> None:
    said = findings(folder, "calcinaia.toml", change)
    assert all(sentence.startswith("calcinaia.toml: ") for sentence in said)
    assert any(re.search(finding, sentence) for sentence in said), said


def test_an_empty_outline_is_not_a_comune_that_quietly_disappears(folder: Path) -> None:
    said = findings(
        folder,
        "bientina.toml",
        lambda content: re.sub(r"outline = \[\n(.*\n)+?\]", "outline = []", content, count=1),
    )
    assert said == ("bientina.toml: territory.outline is empty; fill it, or see another comune's file",)


def test_a_comune_without_channels_is_refused(folder: Path) -> None:
    said = findings(
        folder,
        "bientina.toml",
        lambda content: re.sub(r"\[\[channels\]\]\n(.+\n)+", "", "channels = []\n" + content),
    )
    assert said == ("bientina.toml: channels is empty; a comune without a number or a bot reaches nobody",)


def test_a_missing_table_is_one_finding(folder: Path) -> None:
    said = findings(folder, "bientina.toml", lambda content: re.sub(r"\[policy\]\n(.+\n)+", "", content))
    assert "bientina.toml: policy is missing; write a [table]" in said
    assert not any("policy.url" in sentence for sentence in said)


def test_a_one_way_comune_says_who_listens(folder: Path) -> None:
    said = findings(folder, "bientina.toml", swap('phone = "0587 758456"\n', ""))
    assert any("contact.phone and contact.email are both missing" in sentence for sentence in said)
    assert any("texts.help has {phone}, which this file does not give" in sentence for sentence in said)


def test_two_accounts_on_one_channel_are_refused(folder: Path) -> None:
    account = '[[channels]]\nname = "whatsapp.bientina"\nchannel = "whatsapp"\nper_second = 80\n'
    account += 'identity = "+393665775491"\n'
    account += 'settings = { phone_number_id = "9", template = "a", template_language = "it" }\n\n'
    said = findings(folder, "bientina.toml", swap("[territory]", account + "[territory]"))
    assert said == ("bientina.toml: channels has two accounts on whatsapp; keep one",)


def test_an_account_for_exercises_stands_beside_the_live_one_and_says_what_it_is(folder: Path) -> None:
    drill = '[[channels]]\nname = "whatsapp.bientina.exercise"\nchannel = "whatsapp"\nper_second = 80\n'
    drill += 'identity = "+393665775491"\nexercise = true\n'
    drill += 'settings = { phone_number_id = "9", template = "a", template_language = "it" }\n\n'
    file = folder / "bientina.toml"
    file.write_text(file.read_text().replace("[territory]", drill + "[territory]", 1))
    bientina = load(folder)["bientina"]
    assert [one.exercise for one in bientina.channels if one.channel is Channel.WHATSAPP] == [False, True]
    live = bientina.channel(Channel.WHATSAPP)
    assert live is not None
    assert not live.exercise

    file.write_text(file.read_text().replace("whatsapp.bientina.exercise", "whatsapp.bientina2"))
    with pytest.raises(AuthorityFileError, match="is not whatsapp"):
        load(folder)


def test_all_findings_of_all_files_are_told_at_once(folder: Path) -> None:
    (folder / "cascina.toml").write_bytes(b"name = \xff")
    (folder / "Borgo_Nuovo.toml").write_text("")
    said = findings(
        folder, "calcinaia.toml", lambda content: content.replace('"050004"', '"4"').replace("https", "http")
    )
    assert {sentence.split(":")[0] for sentence in said} == {
        "calcinaia.toml",
        "cascina.toml",
        "Borgo_Nuovo.toml",
    }
    assert len([sentence for sentence in said if sentence.startswith("calcinaia.toml")]) >= 2


def test_the_error_reads_as_a_list_of_sentences(folder: Path) -> None:
    (folder / "calcinaia.toml").write_text("name = ")
    with pytest.raises(AuthorityFileError, match=r"cannot be loaded:\n- calcinaia.toml: this is not TOML"):
        load(folder)


def test_two_comuni_on_one_number_need_words_that_can_be_told_apart(folder: Path) -> None:
    said = findings(folder, "bientina.toml", swap("+393665775490", "+393336492690"))
    assert any(
        "bientina.toml and calcinaia.toml: both are reached at +393336492690" in sentence and "attiva" in sentence
        for sentence in said
    )


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (swap("smtp://posta.example:587", "posta.example"), "is no mail server; write smtp://"),
        (swap("smtp://posta.example:587", "smtp://io:segreto@posta.example"), "is no mail server"),
        (swap('username = "avvisi.bientina", ', ""), "settings.username is missing; email cannot send without it"),
        (swap('identity = "avvisi@', 'identity = "Avvisi@'), "is not written as it is sent; write avvisi@"),
        (swap('identity = "avvisi@', 'identity = "avvisi '), "cannot be written to: this is not an e-mail address"),
        (
            swap('username = "avvisi.bientina"', 'username = "a", password = "b"'),
            "settings.password looks like a secret",
        ),
    ],
)
def test_a_mail_account_nobody_could_write_from_is_found(folder: Path, change: Change, finding: str) -> None:
    assert any(finding in said for said in findings(folder, "bientina.toml", change))


def test_two_comuni_may_share_a_number_when_their_words_differ(folder: Path) -> None:
    path = folder / "bientina.toml"
    content = path.read_text().replace("+393665775490", "+393663476285")
    path.write_text(content.replace('"ATTIVA"', '"ATTIVA BIENTINA"').replace('"DISATTIVA"', '"DISATTIVA BIENTINA"'))
    sharing = (load(folder)[code].channel(Channel.WHATSAPP) for code in ("bientina", "santa-fiora"))
    assert {access.identity for access in sharing if access} == {"+393663476285"}


def test_one_phone_number_id_for_two_numbers_is_a_slip(folder: Path) -> None:
    said = findings(folder, "bientina.toml", swap("105000100000001", "105000400000001"))
    assert any("have the phone_number_id 105000400000001 for two numbers" in sentence for sentence in said)


def test_two_files_for_the_same_comune_are_refused(folder: Path) -> None:
    said = findings(folder, "bientina.toml", swap("050001", "050004"))
    assert said == ("bientina.toml and calcinaia.toml: both have the istat 050004; correct the one that is not theirs",)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuthorityFileError, match=r"there is no .toml file"):
        load(tmp_path)
    with pytest.raises(AuthorityFileError, match=r"there is no .toml file"):
        load(tmp_path / "nowhere")


def test_a_file_that_changes_has_another_hash(folder: Path) -> None:
    before = load(folder)["calcinaia"].file_hash
    path = folder / "calcinaia.toml"
    path.write_text(path.read_text() + "\n# reviewed\n")
    assert load(folder)["calcinaia"].file_hash != before == COMUNI["calcinaia"].file_hash


def test_a_policy_whose_text_is_another_than_the_one_that_was_hashed_is_found(tmp_path: Path) -> None:
    for name in ("calcinaia.toml", "calcinaia.policy.txt"):
        shutil.copy(FOLDER / name, tmp_path)
    assert load(tmp_path)["calcinaia"].policy.sha256 == COMUNI["calcinaia"].policy.sha256
    (tmp_path / "calcinaia.policy.txt").write_text("Un altro testo.")
    with pytest.raises(AuthorityFileError, match=r"policy.sha256 is not that of calcinaia.policy.txt; .* version"):
        load(tmp_path)
    file = tmp_path / "calcinaia.toml"
    file.write_text(re.sub(r'sha256 = "\w+"\n', "", file.read_text()))
    with pytest.raises(AuthorityFileError, match=r"policy.sha256 is missing"):
        load(tmp_path)
