"""What goes into a desk and what comes out of it. Of a citizen nothing is ever shown but a masked address."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool

from alerting.api.schemas import Input, Name, Output, PointIn, Time, Words
from alerting.domain.desk import Line, PhotoState, ReportState

LONGEST_ANSWER = 900
"""Characters of what is sent to somebody: with the comune's own words around it one text of a template."""


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty: write what the citizen is to read")
    return value.strip()


Answer = Annotated[Words, Field(max_length=LONGEST_ANSWER), AfterValidator(_not_blank)]


class ReportShort(Output):
    """A report in a list. `merged_into`: it is worked on there."""

    number: int
    category: str | None
    category_name: str
    state: ReportState
    begins: str = Field(description="The first words of it.")
    street: str | None
    frazione: str | None
    point: PointIn | None
    opened_at: datetime
    last_said_at: datetime
    first_answer_at: datetime | None
    closed_at: datetime | None
    assigned_to: str | None
    merged_into: int | None


class ReportPage(Output):
    items: list[ReportShort]
    next_cursor: int | None


class EntryOut(Output):
    """A line of a report: what the citizen said, what they were answered, what the staff noted for itself."""

    at: datetime
    kind: Line
    actor: str | None
    words: str


class PhotoOut(Output):
    """`path`: where it is seen with a token, once it is kept."""

    number: int
    at: datetime
    state: PhotoState
    path: str | None


class ReportOut(ReportShort):
    """A report as its staff sees it. `alike` are open ones that may be of the same thing: a suggestion, no more."""

    address: str | None = Field(description="Masked; null once it is forgotten who reported.")
    entries: list[EntryOut]
    photos: list[PhotoOut]
    alike: list[int]
    merged: list[int] = Field(description="Reports of the same thing: who made them is told of the end too.")


class AssignIn(Input):
    to: Name | None = Field(description="Somebody of the staff; null for nobody.")


class NoteIn(Input):
    words: Answer


class AnswerIn(Input):
    """`asks`: the report waits for what the citizen says to it."""

    words: Answer
    asks: StrictBool = False


class MergeIn(Input):
    into: Annotated[int, Field(ge=1)]


class CategoryIn(Input):
    category: Name


class CloseIn(Input):
    """How it ended, and what everybody who reported it reads of that."""

    solved: StrictBool
    words: Annotated[Words, Field(max_length=LONGEST_ANSWER)] = ""


class ClosedOut(Output):
    number: int
    state: ReportState
    told: int = Field(description="People who are told.")


class OfficeOut(Output):
    code: str
    name: str
    where: str
    minutes: int
    capacity: int
    free: list[datetime] = Field(description="The next slots somebody can still have, in UTC.")


class OfficeList(Output):
    items: list[OfficeOut]


class BookingOut(Output):
    number: int
    office: str
    starts_at: datetime
    seat: int
    address: str | None = Field(description="Masked.")
    booked_at: datetime
    cancelled_at: datetime | None
    cancelled_by: str | None = Field(description="Somebody of the staff; null where the citizen did.")


class BookingPage(Output):
    items: list[BookingOut]
    next_cursor: int | None


class MoveIn(Input):
    to: Time


class CancelIn(Input):
    words: Annotated[Words, Field(max_length=LONGEST_ANSWER)] = ""


class MonthOut(Output):
    """The reports of one category that were opened in one month, in Italy. Times are medians."""

    month: str
    category: str | None
    category_name: str
    opened: int
    by_state: dict[str, int]
    merged: int
    first_answer_hours: float | None
    solution_hours: float | None


class BookingsOut(Output):
    """The appointments with one office that were made in one month."""

    month: str
    office: str
    booked: int
    cancelled: int


class DeskFigures(Output):
    authority: str
    months: list[MonthOut]
    appointments: list[BookingsOut]
