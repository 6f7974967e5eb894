"""`python -m consumers.local`: a demo that ends by itself, the whole stack, or only its two servers."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from alerting.domain.delivery import Channel
from consumers.local.services import NoBroker, NoDatabase, postgresql, rabbitmq
from consumers.local.serving import AlreadyRunning, ServerDied

app = typer.Typer(help="The system on one machine.", no_args_is_help=True, pretty_exceptions_show_locals=False)


@app.command()
def demo() -> None:
    """An emergency overtakes event news that was already going out; ends by itself, with the figures."""
    from consumers.local.demo import run

    raise typer.Exit(run())


@app.command()
def up() -> None:
    """The whole stack in the foreground, with simulated providers, until Ctrl-C."""
    from consumers.local.up import up as run_stack

    raise typer.Exit(run_stack())


@app.command()
def simulate(
    channel: Annotated[Channel, typer.Argument(help="Which provider.")],
    port: int = 8080,
    host: str = "127.0.0.1",
    api: Annotated[str, typer.Option(help="Where our API answers, for its webhooks.")] = "http://127.0.0.1:8000",
) -> None:
    """One simulated provider that knows the accounts of ALERTING_SECRETS_FILE."""
    from alerting import authorities
    from alerting.settings import Settings
    from consumers.local import trial
    from consumers.simulators import email, mqtt, sms_smpp, telegram, web_push, whatsapp
    from consumers.simulators.__main__ import serve_until_told

    settings = Settings()
    known = (authorities.load(settings.authorities_folder), settings.secrets, api)
    match channel:
        case Channel.WHATSAPP:
            serve_until_told(lambda: whatsapp.start(trial.whatsapp_settings(*known), host=host, port=port))
        case Channel.TELEGRAM:
            serve_until_told(lambda: telegram.start(trial.telegram_settings(*known), host=host, port=port))
        case Channel.EMAIL:
            told = trial.email_settings(*known) | {"smtp_port": 2525}
            serve_until_told(lambda: email.start(told, host=host, port=port))
        case Channel.SMS:
            spoken = {"smpp_host": host, "smpp_port": 2775}
            serve_until_told(lambda: sms_smpp.start(trial.sms_settings(*known[:2]) | spoken, host=host, port=port))
        case Channel.WEB_PUSH:
            serve_until_told(lambda: web_push.start(host=host, port=port))
        case Channel.MQTT:
            shown = {"broker": settings.mqtt_url or "mqtt://127.0.0.1:1883"}
            serve_until_told(lambda: mqtt.start(trial.mqtt_settings(known[0]) | shown, host=host, port=port))


@app.command()
def services(
    where: Annotated[Path, typer.Option(help="Folder for the data and logs of servers that are started.")],
) -> None:
    """RabbitMQ and PostgreSQL only: prints the addresses of both and stays until Ctrl-C."""
    with (
        rabbitmq(where, os.environ.get("AMQP_URL"), keep=True) as amqp,
        postgresql(where, os.environ.get("DATABASE_URL"), keep=True) as database,
    ):
        print(f"AMQP_URL={amqp}", f"DATABASE_URL={database}", sep="\n", flush=True)
        asked = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        signal.sigwait(asked)


def main() -> None:
    """Run the command; what cannot be had is said in words, not with a traceback."""
    try:
        app()
    except (NoBroker, NoDatabase, ServerDied, AlreadyRunning) as problem:
        typer.echo(str(problem), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
