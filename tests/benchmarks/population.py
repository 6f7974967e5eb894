"""A town full of subscribers, put into PostgreSQL in bulk: a million in about half a minute.

Person n has the number +39347 and n in seven digits. The rows are those that `alerting.subscribing.join` writes,
but for the proofs of consent, which nothing here reads.
"""

from collections.abc import Iterable

import psycopg

from alerting.authorities import load
from alerting.domain.authority import Authority
from alerting.domain.recipients import Place, Precision
from alerting.sealing import Seal
from alerting.subscribing import areas_of
from geo.cells import cell_of
from geo.shapes import Point

AUTHORITY, ACCOUNT = "calcinaia", "whatsapp.calcinaia"
IN_FORNACETTE = Point(43.671, 10.589)
CAPOLUOGO = Point(43.694, 10.612)
PREFIX = 393470000000
IDS_FROM = 1000
"""People's rows are numbered from here: the public channels were enrolled before."""


def settle(connection: psycopg.Connection, seal: Seal, people: range, point: Point) -> None:
    """These people subscribe to Calcinaia on WhatsApp, all at home at one point."""
    rows = {"from": IDS_FROM + people.start, "to": IDS_FROM + people.stop - 1, "authority": AUTHORITY}
    with connection.transaction(), connection.cursor() as cursor:
        # Foreign keys hold by construction, and asking for each row would take longer than writing it.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            """INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at)
               SELECT n, %(authority)s, true, false, 'it', true, now()
                 FROM generate_series(%(from)s::bigint, %(to)s) n""",
            rows,
        )
        cursor.execute(
            """INSERT INTO places (recipient_id, label, lat, lon, cell)
               SELECT n, 'casa', %(lat)s, %(lon)s, %(cell)s FROM generate_series(%(from)s::bigint, %(to)s) n""",
            rows | {"lat": point.lat, "lon": point.lon, "cell": cell_of(point.lat, point.lon)},
        )
        for area in sorted(_areas(point)):
            cursor.execute(
                """INSERT INTO memberships (area, recipient_id, place_id)
                   SELECT a.id, p.recipient_id, p.id
                     FROM areas a, places p
                    WHERE a.code = %(area)s AND a.state = 'serving'
                      AND p.recipient_id BETWEEN %(from)s::bigint AND %(to)s""",
                rows | {"area": area},
            )
        columns = "recipient_id, account, fingerprint, sealed, rank, not_before"
        with cursor.copy(f"COPY addresses ({columns}) FROM STDIN BINARY") as copy:
            copy.set_types(["int8", "varchar", "bytea", "bytea", "int2", "float8"])
            for person in people:
                number = f"+{PREFIX + person}"
                copy.write_row((IDS_FROM + person, ACCOUNT, seal.fingerprint(number), seal.seal(number), 0, 0.0))
        cursor.execute("SELECT setval(pg_get_serial_sequence('recipients', 'id'), %(to)s::bigint)", rows)


def settled(connection: psycopg.Connection) -> None:
    """What autovacuum would have seen to by and by."""
    connection.execute("VACUUM ANALYZE recipients, addresses, places, memberships")
    connection.execute("CHECKPOINT")


def numbers(people: Iterable[int]) -> list[int]:
    """What the sink reads where these are told."""
    return [PREFIX + person for person in people]


def _areas(point: Point) -> set[str]:
    return areas_of(Place(Precision.ADDRESS, (), point), _calcinaia())


def _calcinaia() -> Authority:
    return load()[AUTHORITY]
