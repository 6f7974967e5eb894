"""Which lane an alert takes: it follows from severity, urgency and category, never from a wish."""

from alerting.domain.cap import Alert, Category, Info, MsgType, Severity, Urgency
from alerting.domain.lanes import Lane

OF_PUBLIC_SAFETY = frozenset(set(Category) - {Category.ENV, Category.OTHER})
SOON = frozenset({Urgency.IMMEDIATE, Urgency.EXPECTED})


def lane_of(alert: Alert, follows: Lane | None = None) -> Lane:
    """The lane of an alert: that of its most urgent info, or of what it `follows`, whichever is the more urgent.

    Who was told of a flood in one lane learns in the same that it is over: an Update is never slower than what it
    changes. A Cancel of something urgent is flash: a wrong alert is being acted upon while we speak.
    """
    lanes = [_lane_of_info(info) for info in alert.infos]
    lane = min([*lanes, follows] if follows else lanes, key=lambda lane: lane.rank)
    if alert.msg_type is MsgType.CANCEL and lane.is_urgent:
        return Lane.FLASH
    return lane


def _lane_of_info(info: Info) -> Lane:
    immediate = info.urgency is Urgency.IMMEDIATE
    match info.severity:
        case Severity.EXTREME:
            return Lane.FLASH
        case Severity.SEVERE:
            return Lane.FLASH if immediate else Lane.EMERGENCY
        case Severity.MODERATE if info.urgency in SOON and OF_PUBLIC_SAFETY.intersection(info.category):
            return Lane.EMERGENCY
        case Severity.UNKNOWN if immediate:
            # A feed that does not know how bad it is, but that it is now, is believed.
            return Lane.EMERGENCY
        case _:
            return Lane.ROUTINE
