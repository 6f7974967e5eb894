"""Starts one provider that is not there: `python -m consumers.simulators whatsapp --port 9101`."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from consumers.simulators import email, mqtt, sms_http, sms_smpp, telegram, web_push, whatsapp
from consumers.simulators.serving import Served

app = typer.Typer(help="Simulated providers on real sockets.", no_args_is_help=True, add_completion=False)

Host = Annotated[str, typer.Option(help="Where to listen.")]
ConfigFile = Annotated[Path | None, typer.Option(help="A JSON file with what POST /__sim/config takes.", exists=True)]


@app.command("whatsapp")
def run_whatsapp(
    port: int = 9101,
    host: Host = "127.0.0.1",
    config: ConfigFile = None,
    webhook: Annotated[str | None, typer.Option(help="Where to post statuses and inbound texts.")] = None,
) -> None:
    """Meta's Cloud API."""
    changes = _read(config)
    if webhook is not None:
        changes["webhook_url"] = webhook
    serve_until_told(lambda: whatsapp.start(changes, host=host, port=port))


@app.command("telegram")
def run_telegram(port: int = 9102, host: Host = "127.0.0.1", config: ConfigFile = None) -> None:
    """Telegram's Bot API. A bot's webhook is set by setWebhook, or in the file."""
    serve_until_told(lambda: telegram.start(_read(config), host=host, port=port))


@app.command("email")
def run_email(
    port: int = 9104,
    host: Host = "127.0.0.1",
    config: ConfigFile = None,
    smtp_port: Annotated[int | None, typer.Option(help="Where to take mail; a free one unless the file says.")] = None,
) -> None:
    """A mail server. What it took is shown on the other port."""
    changes = _read(config)
    if smtp_port is not None:
        changes["smtp_port"] = smtp_port
    serve_until_told(lambda: email.start(changes, host=host, port=port))


@app.command("sms")
def run_sms(
    port: int = 9103,
    host: Host = "127.0.0.1",
    config: ConfigFile = None,
    smpp_port: Annotated[int | None, typer.Option(help="Where SMPP is spoken; the port itself is the desk's.")] = None,
) -> None:
    """An SMSC that speaks SMPP 3.4."""
    changes = _read(config)
    if smpp_port is not None:
        changes |= {"smpp_port": smpp_port, "smpp_host": host}
    serve_until_told(lambda: sms_smpp.start(changes, host=host, port=port))


@app.command("web-push")
def run_web_push(port: int = 9106, host: Host = "127.0.0.1", config: ConfigFile = None) -> None:
    """A push service, and the browsers that POST /__sim/subscribe makes."""
    serve_until_told(lambda: web_push.start(_read(config), host=host, port=port))


@app.command("sms-rest")
def run_sms_rest(
    port: int = 9105,
    host: Host = "127.0.0.1",
    config: ConfigFile = None,
    house: Annotated[
        str | None, typer.Option(help="Whose message types: skebby, trendoo, aruba, mobyt, smsend.")
    ] = None,
) -> None:
    """An SMS provider that speaks the REST API of Skebby, Aruba SMS and their like."""
    changes = _read(config)
    if house is not None:
        changes["house"] = house
    serve_until_told(lambda: sms_http.start(changes, host=host, port=port))


@app.command("mqtt")
def run_mqtt(
    port: int = 9107,
    host: Host = "127.0.0.1",
    config: ConfigFile = None,
    broker: Annotated[str | None, typer.Option(help="mqtt://user:password@host:1883, a real one.")] = None,
) -> None:
    """Message panels and sirens at an MQTT broker. What they show is to be seen at the port."""
    changes = _read(config)
    if broker is not None:
        changes["broker"] = broker
    serve_until_told(lambda: mqtt.start(changes, host=host, port=port))


def _read(config: Path | None) -> dict[str, Any]:
    found = json.loads(config.read_text("utf-8")) if config is not None else {}
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{config} holds no JSON object; write one")
    return found


def serve_until_told(start: Callable[[], Awaitable[Served]]) -> None:
    """Listen until SIGTERM or Ctrl-C."""

    async def until_told() -> None:
        stop = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        try:
            served = await start()
        except (ValueError, OSError) as error:
            raise SystemExit(str(error)) from error
        typer.echo(f"listening on {served.base_url}")
        await stop.wait()
        await served.close()

    uvloop.run(until_told())


if __name__ == "__main__":
    app()
