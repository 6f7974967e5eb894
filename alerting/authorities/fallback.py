"""A comune's words on falling back, lane by lane: on which channels, after how long, and for how much."""

import re
from datetime import timedelta

from alerting.authorities.reading import Table
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.fallback import COSTS, DEAR, Fallback, Policy
from alerting.domain.lanes import Lane

LANES = (Lane.FLASH, Lane.EMERGENCY, Lane.ROUTINE)
"""A reply goes to where the citizen wrote from, and nowhere else."""
DURATION = re.compile(r"([1-9][0-9]{0,4})\s*(s|m|h)")
UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST_PATIENCE = timedelta(hours=24)
DEAREST_BUDGET = 100_000.0
"""Euro. No comune spends as much on one alert, so that more is a slip."""


def read_fallback(table: Table, channels: tuple[ChannelAccess, ...]) -> Fallback:
    """The lanes that the table names. Whatever is wrong with it is noted."""
    lanes = {lane: _policy(table.table(str(lane)), channels) for lane in LANES if table.has(str(lane))}
    table.nothing_else()
    return Fallback(lanes)


def _policy(table: Table, channels: tuple[ChannelAccess, ...]) -> Policy:
    policy = Policy(
        order=_order(table),
        patience=_patience(table),
        per_alert=_budget(table, "euro_per_alert"),
        per_month=_budget(table, "euro_per_month"),
    )
    table.nothing_else()
    live = {access.channel: access for access in channels if not access.exercise}
    others = frozenset(policy.order[1:]) if policy.order else DEAR & live.keys()
    for channel in policy.order:
        if channel not in live:
            table.note(f"{table.key('order')} has {channel}, on which this comune has no account; take it out")
    for channel in sorted(others & COSTS & live.keys(), key=str):
        if policy.spends and live[channel].euro_per_text is None:
            table.note(
                f"{table.key('euro_per_alert')} or euro_per_month cannot be kept: nobody knows what {channel} costs; "
                "write euro_per_text in its [[channels]]"
            )
    return policy


def _order(table: Table) -> tuple[Channel, ...]:
    known = {channel.value: channel for channel in Channel}
    order: list[Channel] = []
    for word in table.texts("order", optional=True):
        if word not in known:
            table.note(f"{table.key('order')} has {word!r}, which is no channel; write {' or '.join(known)}")
        elif known[word] in order:
            table.note(f"{table.key('order')} has {word!r} twice; nobody is told twice at one address, keep one")
        else:
            order.append(known[word])
    return tuple(order)


def _patience(table: Table) -> timedelta | None:
    """`"3m"`, `"90s"`, `"1h"`, or seconds; None where the file says nothing."""
    if not table.has("patience"):
        return None
    key = table.key("patience")
    value = table.anything("patience")
    seconds = 0.0
    if isinstance(value, str) and (found := DURATION.fullmatch(value.strip())):
        seconds = float(int(found[1]) * UNITS[found[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if not 1 <= seconds <= LONGEST_PATIENCE.total_seconds():
        table.note(f'{key} {value!r} is no time between a second and a day; write it as "3m", "90s" or in seconds')
        return None
    return timedelta(seconds=seconds)


def _budget(table: Table, key: str) -> int | None:
    """In millionths of a euro."""
    if not table.has(key):
        return None
    euro = table.number(key)
    if not 0 <= euro <= DEAREST_BUDGET:
        table.note(f"{table.key(key)} is not between 0 and {DEAREST_BUDGET:,.0f}; write how many euro may be spent")
        return None
    return round(euro * 1e6)
