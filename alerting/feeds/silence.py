"""When a source has said nothing for too long. No data is not green."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta

from alerting.domain.rendering import ROME
from alerting.domain.sources import Source
from alerting.persistence.tables import Feed

NEVER_ANSWERED = 5
"""Failures after which a source that has never answered counts as silent: some four minutes."""


def silent(source: Source, feed: Feed, now: datetime) -> str | None:
    """For the operator on duty: since when nothing good has come from a source. None while all is well.

    The sentence goes on after the source's title and a colon.
    """
    polling = source.polling
    if polling is None:
        return None
    if feed.answered_at is None:
        if feed.failures < NEVER_ANSWERED:
            return None
        return f"non ha mai risposto in {feed.failures} tentativi. Verificare l'indirizzo della fonte."
    answered = datetime.fromtimestamp(feed.answered_at, ROME)
    if polling.silent_after and now - answered > polling.silent_after:
        return (
            f"non risponde dalle {answered:%H:%M del %d/%m/%Y}. Le sue allerte potrebbero mancare: "
            "consultare il suo sito."
        )
    if polling.due and (day := _missing_since(feed.seen, polling.due, now)):
        return (
            f"il bollettino del {day:%d/%m/%Y} non è arrivato entro le {polling.due:%H:%M}. "
            "Nessun dato non vuol dire verde: consultare il sito."
        )
    return None


def _missing_since(bulletins: Iterable[str], due: time, now: datetime) -> date | None:
    """The day whose bulletin should be here and is not. Until the hour it is due, that is the day before's."""
    here = now.astimezone(ROME)
    day = here.date() if here.time() >= due else here.date() - timedelta(days=1)
    # One that is dated tomorrow by a slip must not stand for all that fail to come until then.
    arrived = (issued for issued in bulletins if issued[:8] <= f"{here:%Y%m%d}")
    return None if max(arrived, default="") >= f"{day:%Y%m%d}" else day
