"""`make soak`: sixty kills and more of any process, the broker wiped, PostgreSQL away, the provider ailing.

`ALERTING_FAULTS_SEED=123 make soak` draws the same again. The log of faults is printed as they happen.
"""

import time
from pathlib import Path
from secrets import token_hex

import pytest

from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import Stack, running
from tests.end_to_end.faults import LONG, Suffering, drawn, seed_of_run
from tests.end_to_end.town import COPIES, NO_PAIR_LIMIT, Town
from tests.end_to_end.verdict import broken_promises, undisturbed_emergencies

KILLS = 70
REST = (12.0, 16.0)
"""Seconds between bouts of faults: longer than the aftermath, so that overtaking can be judged."""
PATIENCE = 300.0
"""Seconds after the last fault: a routine batch that a wiped broker forgot is told again after three minutes."""
SEEN_UNDISTURBED = 1


@pytest.mark.timeout(1200)
@pytest.mark.slow
def test_after_sixty_kills_and_a_wiped_broker_everybody_was_told_and_nobody_was_bothered(
    servers: Path,
    rabbitmq_programs: None,
    postgresql_programs: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = seed_of_run()

    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    tell(f"\nseed {seed}: ALERTING_FAULTS_SEED={seed} draws the same again; logs in {tmp_path}")
    where = servers / f"soak-{token_hex(3)}"
    where.mkdir()
    broker, database = PrivateRabbitMQ(where), PrivatePostgreSQL(where, durable=True)
    broker.start()
    try:
        database.start()
        stack = Stack(tmp_path, broker.url, database.url, copies=COPIES, whatsapp=dict(NO_PAIR_LIMIT))
        with running(stack):
            stack.prepare()
            stack.start_simulators()
            stack.start()
            time.sleep(4)  # RabbitMQ 3.10 may lose a quorum queue that is killed right after its declaration
            town = Town(stack)
            suffering = Suffering(
                town, broker, database, seed, in_fornacette=100, elsewhere=300, patience=PATIENCE, tell=tell
            )
            record = suffering.goes_through(drawn(seed, LONG, kills=KILLS, once=["broker wiped"], rest=REST))
    finally:
        broker.wipe()
        database.wipe()
    assert record.kills >= KILLS
    assert not (broken := broken_promises(record)), f"seed {seed}, logs in {tmp_path}:\n" + "\n".join(broken)
    assert undisturbed_emergencies(record) >= SEEN_UNDISTURBED, f"seed {seed}: too few to judge overtaking by"
