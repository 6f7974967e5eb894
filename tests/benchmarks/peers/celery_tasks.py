"""What a user of Celery would write to send texts. It runs in Celery's own environment, both sides of it.

celery -A celery_tasks worker …     the worker
python celery_tasks.py              who asks: orders as lines of JSON on standard input, each answered by a line
"""

import json
import os
import sys
import time
from functools import cache

import psycopg
import requests  # type: ignore[import-untyped, import-not-found, unused-ignore]
from celery import Celery  # type: ignore[import-not-found]
from kombu import Queue  # type: ignore[import-not-found]

app = Celery("texts", broker=os.environ["PEER_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_queues=[Queue(name, queue_arguments={"x-max-priority": 10}) for name in ("texts", "urgent")],
    task_default_queue="texts",
)
app.conf.update(json.loads(os.environ["PEER_SETTINGS"]))

session = requests.Session()
every = float(os.environ["PEER_EVERY"])  # seconds between two texts of one process; 0 where the rate limit sees to it
not_before = 0.0


def pace() -> None:
    """Wait for this process's turn."""
    global not_before
    now = time.monotonic()
    time.sleep(max(0.0, not_before - now))
    not_before = max(now, not_before) + every


@cache
def database() -> psycopg.Connection[tuple[object, ...]]:
    """One for each process of the worker: a statement, a commit."""
    return psycopg.connect(os.environ["PEER_DATABASE"], autocommit=True)


def send(to: str, text: str, recorded: bool = False) -> None:
    """One text to one number by the WhatsApp Cloud API, and where `recorded` a row that says so."""
    pace()
    body = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "type": "template",
        "template": {
            "name": "avviso",
            "language": {"code": "it"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": text}]}],
        },
        "to": to,
    }
    answer = session.post(
        f"{os.environ['PEER_SINK']}/v26.0/100000000000001/messages",
        data=json.dumps(body, separators=(",", ":")),
        headers={"Content-Type": "application/json", "Authorization": "Bearer 0123456789abcdef"},
        timeout=10,
    )
    answer.raise_for_status()
    if recorded:
        identity = answer.json()["messages"][0]["id"]
        database().execute("INSERT INTO sends (recipient, provider_id) VALUES (%s, %s)", (to, identity))


task = app.task(name="send")(send)


def main() -> None:
    """Each order: queue, priority, recorded, text, and the numbers `first` to `first + count`."""
    for line in sys.stdin:
        order = json.loads(line)
        for number in range(order["first"], order["first"] + order["count"]):
            words = (f"+39333{number:07d}", order["text"], order["recorded"])
            task.apply_async(words, queue=order["queue"], priority=order["priority"])
        print("done", flush=True)


if __name__ == "__main__":
    main()
