"""Which lane goes first, and that nobody's order changes by accident."""

import pytest

from alerting.domain.lanes import PEOPLE_PER_BATCH, Lane


def test_flash_goes_before_emergency_before_reply_before_routine() -> None:
    assert [str(lane) for lane in sorted(Lane, key=lambda lane: lane.rank)] == [
        "flash",
        "emergency",
        "reply",
        "routine",
    ]


def test_only_flash_and_emergency_are_urgent() -> None:
    assert {lane for lane in Lane if lane.is_urgent} == {Lane.FLASH, Lane.EMERGENCY}


@pytest.mark.parametrize(
    ("lane", "first"),
    [
        (Lane.FLASH, ()),
        (Lane.EMERGENCY, (Lane.FLASH,)),
        (Lane.REPLY, (Lane.FLASH, Lane.EMERGENCY)),
        (Lane.ROUTINE, (Lane.FLASH, Lane.EMERGENCY, Lane.REPLY)),
    ],
)
def test_a_lane_knows_who_goes_before_it(lane: Lane, first: tuple[Lane, ...]) -> None:
    assert lane.above == first


def test_urgent_batches_are_small_and_an_answer_is_for_one_person() -> None:
    assert PEOPLE_PER_BATCH.keys() == set(Lane)
    assert PEOPLE_PER_BATCH[Lane.FLASH] == PEOPLE_PER_BATCH[Lane.EMERGENCY] == 100 < PEOPLE_PER_BATCH[Lane.ROUTINE]
    assert PEOPLE_PER_BATCH[Lane.REPLY] == 100
