"""`make up`: the whole stack in the foreground, with simulated providers, on data that stays."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from honcho.manager import Manager

from consumers.local.private_mosquitto import broker_if_any
from consumers.local.services import postgresql, rabbitmq
from consumers.local.stack import ROOT, Stack, procfile

API_PORT, WEBHOOKS_PORT = 8000, 8001
WHATSAPP_PORT, TELEGRAM_PORT, SMS_PORT, EMAIL_PORT, SMTP_PORT = 9101, 9102, 9103, 9104, 9125
WEB_PUSH_PORT, PANELS_PORT = 9106, 9107
FIRST_METRICS_PORT = 9200
SOURCE = "unione-valdera"
LOOKS_EVERY, ANSWER_WITHIN = 0.2, 90.0  # seconds


def up() -> int:
    """Run until Ctrl-C, or until a process ends; the exit status is that process's."""
    where = ROOT / "var" / "up"
    where.mkdir(parents=True, exist_ok=True)
    print("Avvio di RabbitMQ e PostgreSQL…", flush=True)
    with (
        rabbitmq(where / "rabbitmq", os.environ.get("AMQP_URL"), keep=True) as amqp,
        postgresql(where / "postgresql", os.environ.get("DATABASE_URL"), keep=True) as database,
        broker_if_any(where) as mqtt,
    ):
        stack = Stack(
            where,
            amqp,
            database,
            share_of_limit=0.95,
            api_port=API_PORT,
            webhooks_port=WEBHOOKS_PORT,
            whatsapp_port=WHATSAPP_PORT,
            telegram_port=TELEGRAM_PORT,
            email_port=EMAIL_PORT,
            smtp_port=SMTP_PORT,
            sms_port=SMS_PORT,
            web_push_port=WEB_PUSH_PORT,
            asks=True,
            with_sms=True,
            mqtt=mqtt,
            mqtt_port=PANELS_PORT,
        )
        stack.prepare()
        tokens = _tokens(stack, where / "tokens.json")
        manager = Manager()
        commands = stack.simulators() | procfile()
        ports = {name: FIRST_METRICS_PORT + number for number, name in enumerate(procfile())}
        for name, command in commands.items():
            own = {"METRICS_PORT": str(ports.get(name, 0)), "ALERTING_LOG_FORMAT": "plain"}
            manager.add_process(
                name,
                command.replace("python ", f"exec {sys.executable} ", 1),
                env=stack.environment | own,
                cwd=str(ROOT),
            )
        print("Avvio dei processi…", flush=True)
        threading.Thread(target=_announce, args=(stack, tokens, ports, list(commands)), daemon=True).start()
        manager.loop()
        asked_to = 128 + signal.SIGINT
        return 0 if manager.returncode in (None, asked_to) else int(manager.returncode)


def _tokens(stack: Stack, file: Path) -> dict[str, str]:
    """Two people to try with, made once: the author of an alert cannot approve it. And a source that hands CAP in."""
    if file.exists():
        known: dict[str, str] = json.loads(file.read_text())
        return known
    made = {"anna": stack.token("anna", "operator"), "bruno": stack.token("bruno", "approver")}
    made[SOURCE] = stack.token(SOURCE, "feed")
    file.touch(mode=0o600)
    file.write_text(json.dumps(made, indent=2))
    return made


def _announce(stack: Stack, tokens: dict[str, str], ports: dict[str, int], names: list[str]) -> None:
    """The addresses, once all answer: nobody who pastes them is to be refused. In the end they are told anyway."""
    give_up = time.monotonic() + ANSWER_WITHIN
    while names and time.monotonic() < give_up:
        names = [name for name in names if not stack.answers(name, ports.get(name, 0))]
        time.sleep(LOOKS_EVERY)
    _print_addresses(stack, tokens, ports)


def _print_addresses(stack: Stack, tokens: dict[str, str], ports: dict[str, int]) -> None:
    """Plain lines, whole: some of them are pasted into another terminal."""
    print(
        f"""
API                    {stack.api}/v1, descritta in {stack.api}/v1/openapi.json
stato                  {stack.api}/v1/status
telefoni (simulati)    {stack.whatsapp_url}/__sim/phone/+393331234567
  con SMS              {stack.sms_url}/__sim/phone/+393331234567
pannelli (simulati)    {f"{stack.mqtt_url}/__sim/panels" if stack.mqtt else "nessuno: manca mosquitto"}
posta (simulata)       {stack.email_url}/__sim/phone/maria@esempio.it
browser (simulati)     {stack.web_push_url}/__sim/phone/maria
  iscrizione           {stack.api}/v1/authorities/calcinaia/web-push/iscriviti
metriche               {stack.api}/metrics
                       {", ".join(f"{name} :{port}" for name, port in ports.items() if name != "api")}

Per provare, in un altro terminale (Anna scrive, Bruno approva):
export ANNA={tokens["anna"]}
export BRUNO={tokens["bruno"]}
export VALDERA={tokens[SOURCE]}   # la fonte {SOURCE}, che consegna CAP
export DATABASE_URL='{stack.database}'   # per `.venv/bin/python -m geo import`

Ctrl-C ferma tutto. I dati restano in {stack.where}.
""",
        flush=True,
    )
