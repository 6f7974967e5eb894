"""Whether a CAP message of a source may be acted upon: its rules, its sender, its signature, its place, its time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from alerting.cap_xml.reading import Document, Verdict
from alerting.cap_xml.signing import SignatureState
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.intake import IntakeState
from alerting.domain.sources import OnError, OnWarning, Signature, Source
from alerting.domain.understanding import is_over
from alerting.intake.places import comuni_of, has_place, zones_of
from geo.shapes import metres_outside

CLOCKS_DIFFER = timedelta(minutes=10)
"""How far ahead of ours a source's clock may be."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a message may do, and why not more. TAKEN with a sentence: read, and nothing follows for the public."""

    state: IntakeState
    because: str = ""

    @property
    def may_act(self) -> bool:
        return self.state is IntakeState.TAKEN and not self.because


def judge(
    document: Document, source: Source, signature: SignatureState, now: datetime, authorities: Iterable[Authority]
) -> Judgement:
    """The gravest thing there is to say about it. The `authorities` are those whose comune it may name."""
    alert = document.alert
    if document.verdict is Verdict.REJECT or alert is None:
        errors = [finding for finding in document.findings if finding.weight.value == "error"]
        reason = f"{errors[0].rule}: {errors[0].text}" if errors else "it could not be understood"
        kept = IntakeState.QUARANTINED if alert and source.on_error is OnError.QUARANTINE else IntakeState.REJECTED
        return Judgement(kept, reason)
    if not source.may_speak_as(alert.sender):
        return _quarantined(f"{alert.sender} is no sender of {source.name}: add it to the source's file if it is one")
    if signature is SignatureState.BAD:
        return Judgement(IntakeState.REJECTED, "its signature is wrong: somebody changed it, or it is not theirs")
    if source.signature is Signature.REQUIRED and signature is not SignatureState.VALID:
        return _quarantined(f"{source.name} must sign, and its signature is {signature}: ask the source")
    if alert.status is not cap.Status.ACTUAL:
        return Judgement(IntakeState.TAKEN, f"its status is {alert.status.value}: nothing for the public")
    if alert.scope is not cap.Scope.PUBLIC:
        return Judgement(IntakeState.TAKEN, f"its scope is {alert.scope.value}: nothing for the public")
    if alert.sent > now + CLOCKS_DIFFER:
        return _quarantined(f"it was sent at {alert.sent:%F %T%z}, which is yet to come: a clock is wrong")
    if alert.msg_type not in (cap.MsgType.ALERT, cap.MsgType.UPDATE):
        return Judgement(IntakeState.TAKEN)  # it speaks of its own source's messages: wherever, and however long
    if not alert.infos:
        return _quarantined("it has no info, and does not say what holds now: ask the source")
    if alert.expires <= now and not any(map(is_over, alert.infos)):
        # What an Update takes the place of has ended with it.
        sentence = f"it ended at {alert.expires:%F %T%z}, before it came"
        return Judgement(IntakeState.TAKEN, "" if alert.msg_type is cap.MsgType.UPDATE else sentence)
    if document.verdict is Verdict.WARN and source.on_warning is OnWarning.QUARANTINE:
        warning = next(finding for finding in document.findings if finding.weight.value == "warning")
        return _quarantined(f"{warning.rule}: {warning.text}")
    outside = _outside(alert, source, {one.istat: one for one in authorities})
    return _quarantined(outside) if outside else Judgement(IntakeState.TAKEN)


def _outside(alert: cap.Alert, source: Source, by_istat: dict[str, Authority]) -> str:
    """How it reaches beyond what the source may speak of; empty where it does not."""
    if not has_place(alert):
        return "nobody here knows its place: it draws none, and names no zone and no comune"
    if alert.geofence is not None:
        if source.territory is None:
            return f"it draws a place, and {source.name} has no territory to draw in"
        metres = metres_outside(alert.geofence, source.territory)
        if metres > source.tolerance_m:
            beyond = f"it reaches {metres:,.0f} m outside the territory of {source.name}"
            return f"{beyond}, and its file tolerates {source.tolerance_m:,.0f} m"
    for zone in zones_of(alert):
        if not source.may_speak_of_zone(zone):
            return f"it names zone {zone}, of which {source.name} may not speak"
    for comune in comuni_of(alert):
        if not _may_speak_of_comune(source, comune, by_istat.get(comune)):
            return f"it names comune {comune}, of which {source.name} may not speak"
    return ""


def _may_speak_of_comune(source: Source, istat: str, authority: Authority | None) -> bool:
    """By its own list, or because the comune lies in its outline or in one of its zones.

    Of a comune that nobody here speaks for, that is not known: nothing follows, and a region names hundreds.
    """
    if istat in source.comuni:
        return True
    if authority is None:
        return not source.comuni and bool(source.zones)
    if any(map(source.may_speak_of_zone, authority.warning_zones)):
        return True
    outline = source.territory
    return outline is not None and metres_outside(authority.territory.fence, outline) <= source.tolerance_m


def _quarantined(sentence: str) -> Judgement:
    return Judgement(IntakeState.QUARANTINED, sentence)
