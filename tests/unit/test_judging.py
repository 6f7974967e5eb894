"""Whether a message of a source may be acted upon, by the gravest thing there is to say about it."""

from dataclasses import replace
from typing import Any

import pytest

from alerting.cap_xml import reading
from alerting.cap_xml.signing import SignatureState
from alerting.domain import cap
from alerting.domain.intake import IntakeState
from alerting.domain.sources import OnError, OnWarning, Signature, Source
from alerting.intake.judging import Judgement, judge
from tests.integration.calcinaia import AUTHORITIES
from tests.integration.newsroom import (
    REGIONE,
    VALDERA,
    after,
    cancel,
    comune,
    drawn,
    fire,
    message,
    update,
    weather,
    written,
    zone,
)


def judged(
    said: cap.Alert | bytes,
    source: Source = VALDERA,
    signature: SignatureState = SignatureState.UNSIGNED,
    minutes: float = 0,
    **policy: Any,
) -> Judgement:
    raw = said if isinstance(said, bytes) else written(said)
    source = replace(source, **policy)
    return judge(reading.read(raw), source, signature, after(minutes), AUTHORITIES.values())


def test_a_message_with_nothing_wrong_may_act() -> None:
    assert judged(message("uno")).may_act


@pytest.mark.parametrize(("on_error", "state"), [(OnError.REJECT, "rejected"), (OnError.QUARANTINE, "quarantined")])
def test_what_breaks_a_rule_goes_where_its_source_wants_it(on_error: OnError, state: str) -> None:
    raw = written(message("uno")).replace(b"Severe", b"Grave")
    judgement = judged(raw, on_error=on_error)
    assert str(judgement.state) == state
    assert judgement.because


def test_what_is_no_cap_is_rejected_whatever_the_source_wants() -> None:
    assert judged(b"garbage", on_error=OnError.QUARANTINE).state is IntakeState.REJECTED


def test_what_a_careful_issuer_would_mend_is_taken_or_held_up() -> None:
    said = message("uno", fire(expires=None))
    assert judged(said).may_act
    held_up = judged(said, on_warning=OnWarning.QUARANTINE)
    assert held_up.state is IntakeState.QUARANTINED
    assert held_up.because.startswith("expires-missing")


@pytest.mark.parametrize("signature", list(SignatureState))
@pytest.mark.parametrize("wanted", list(Signature))
def test_a_signature_that_is_wrong_is_refused_and_one_that_is_missing_where_it_must_be(
    wanted: Signature, signature: SignatureState
) -> None:
    judgement = judged(message("uno"), replace(VALDERA, signature=wanted), signature)
    if signature is SignatureState.BAD:
        assert judgement.state is IntakeState.REJECTED
    elif wanted is Signature.REQUIRED and signature is not SignatureState.VALID:
        assert judgement.state is IntakeState.QUARANTINED
    else:
        assert judgement.may_act


@pytest.mark.parametrize("status", [one for one in cap.Status if one is not cap.Status.ACTUAL])
def test_only_what_is_actual_may_act(status: cap.Status) -> None:
    judgement = judged(message("uno", status=status, note="Esercitazione"))
    assert (judgement.state, judgement.may_act) == (IntakeState.TAKEN, False)


@pytest.mark.parametrize(
    "private",
    [
        {"scope": cap.Scope.RESTRICTED, "restriction": "solo COC"},
        {"scope": cap.Scope.PRIVATE, "addresses": ("coc@comune.calcinaia.pi.it",)},
    ],
)
def test_what_is_not_public_tells_nobody(private: dict[str, Any]) -> None:
    judgement = judged(message("uno", **private))
    assert (judgement.state, judgement.may_act) == (IntakeState.TAKEN, False)


def test_a_sender_is_compared_letter_by_letter() -> None:
    sender = VALDERA.senders[0].upper()
    assert judged(message("uno", sender=sender)).state is IntakeState.QUARANTINED


def test_what_ended_before_it_came_may_not_act_unless_it_ends_something() -> None:
    late = 60 * 7
    first = message("uno")
    assert not judged(first, minutes=late).may_act
    assert judged(update("due", first), minutes=late).may_act, "what it took the place of has ended with it"
    assert judged(cancel("tre", first, infos=(fire(),)), minutes=late).may_act
    over = fire(response_type=(cap.ResponseType.ALL_CLEAR,))
    assert judged(message("quattro", over), minutes=late).may_act


def test_a_cancel_needs_neither_info_nor_place() -> None:
    first = message("uno")
    assert judged(cancel("due", first), minutes=30).may_act
    assert judged(cancel("tre", first, infos=(fire(areas=()),)), minutes=30).may_act


@pytest.mark.parametrize("msg_type", [cap.MsgType.ALERT, cap.MsgType.UPDATE])
def test_what_should_say_something_and_does_not_is_held_up(msg_type: cap.MsgType) -> None:
    said = replace(update("due", message("uno")), msg_type=msg_type, infos=())
    assert judged(said, minutes=15).state is IntakeState.QUARANTINED


@pytest.mark.parametrize(
    ("source", "area", "may"),
    [
        (VALDERA, comune("050004"), True),
        (replace(VALDERA, comuni=("050001",)), comune("050001", "Bientina"), True),
        (VALDERA, comune("053022", "Santa Fiora"), False),
        (VALDERA, comune("048017", "Firenze"), False),
        (VALDERA, zone("Tosc-A4"), False),
        (REGIONE, zone("Tosc-A4"), True),
        (REGIONE, zone("Cala-7"), False),
        (REGIONE, comune("053022", "Santa Fiora"), True),
        (REGIONE, comune("048017", "Firenze"), True),
        (REGIONE, drawn(), False),
        (VALDERA, drawn(), True),
        (VALDERA, cap.Area("da qualche parte"), False),
        (replace(VALDERA, comuni=("050004",), territory=None), comune("050001"), False),
        (replace(VALDERA, comuni=("053022",)), comune("053022"), True),
    ],
)
def test_a_source_speaks_of_its_own_places_only(source: Source, area: cap.Area, may: bool) -> None:
    assert judged(message("uno", weather(areas=(area,)), source=source), source).may_act is may


def test_beside_a_drawing_a_comunes_code_is_only_its_name() -> None:
    both = replace(drawn(), geocodes=(cap.NamedValue("ISTAT_COMUNE", "050029"),))
    assert judged(message("uno", fire(areas=(both,)))).may_act, (
        "Pontedera lies in the outline, and nobody here knows it"
    )
