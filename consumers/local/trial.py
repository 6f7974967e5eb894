"""Made-up credentials, and what simulated providers must be told to know them. Never used in service."""

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from alerting import authorities as shipped
from alerting import sources
from alerting.domain.authority import HEADERS, VARIABLES, Authority, ChannelAccess, parameter_names, templates_of
from alerting.domain.delivery import Channel
from alerting.domain.rendering import TEMPLATE
from alerting.settings import Secrets
from alerting.vapid import SECRET, Vapid

Authorities = dict[str, Authority]


def credentials(file: Path, authorities: Authorities) -> dict[str, dict[str, str]]:
    """Credentials for every account, made up once and kept in `file` for the next time."""
    known: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    app_secret, verify_token = secrets.token_hex(16), secrets.token_hex(8)
    everybody = [access for authority in authorities.values() for access in authority.channels]
    made = known | {
        access.name: {
            "token": _token(access.channel, number),
            "app_secret": app_secret,
            "verify_token": verify_token,
            "webhook_secret": secrets.token_hex(16),
        }
        | ({SECRET: Vapid.new().secret} if access.channel is Channel.WEB_PUSH else {})
        for number, access in enumerate(everybody)
        if access.name not in known  # a comune got another way to reach people since
    }
    made |= known  # whoever has joined since is added
    file.touch(mode=0o600)
    file.write_text(json.dumps(made, indent=2))
    return made


def _token(channel: Channel, number: int) -> str:
    """An SMSC's password has eight characters at most."""
    return secrets.token_hex(4) if channel is Channel.SMS else f"{700000000 + number}:{secrets.token_hex(16)}"


def authorities_with_sms(folder: Path, also: str = "") -> Path:
    """Those that ship, in a folder of their own where Calcinaia sends SMS too: none of them has a real account.

    `also` is what else its file says, as PANELS_OF_CALCINAIA.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in shipped.FOLDER.glob("*.toml"):
        own = folder / file.name
        own.write_text(file.read_text() + (SMS_OF_CALCINAIA + also if file.stem == "calcinaia" else ""))
    return folder


SMS_OF_CALCINAIA = """
[[channels]]
channel = "sms"
name = "sms.calcinaia"
identity = "Calcinaia"
per_second = 30
euro_per_text = 0.045
settings = { sender = "Calcinaia", protocol = "smpp", url = "smpp://127.0.0.1:2775", user = "calcinaia" }
"""

EMAIL_OF_CALCINAIA = """
[[channels]]
channel = "email"
name = "email.calcinaia"
identity = "avvisi@comune.calcinaia.pi.it"
per_second = 10
settings = { url = "smtp://127.0.0.1:25", username = "avvisi.calcinaia", from_name = "Comune di Calcinaia" }
"""

PANELS_OF_CALCINAIA = """
[[channels]]
channel = "mqtt"
name = "mqtt.calcinaia"
identity = "Pannelli e sirene di Calcinaia"
per_second = 100
settings = { url = "mqtt://127.0.0.1:1883", user = "allerta" }

[[panels]]
id = "ponte-fornacette"
kind = "vms"
area = "fornacette"

[[panels]]
id = "piazza-calcinaia"
kind = "vms"
area = "capoluogo"
lines = 6
columns = 32
only = ["flash", "emergency", "routine"]

[[panels]]
id = "sirena-fornacette"
kind = "siren"
area = "fornacette"
"""


def sources_that_hand_in(folder: Path) -> Path:
    """The sources that ship and are never asked, in a folder of their own: a trial does not go out on the network."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources.load().values():
        if source.polling is None:
            shutil.copy(sources.FOLDER / f"{source.name}.toml", folder)
    return folder


def whatsapp_settings(authorities: Authorities, known: Secrets, api: str) -> dict[str, object]:
    """The numbers and templates of all authorities, and where their webhooks go."""
    accounts = list(_on(Channel.WHATSAPP, authorities))
    templates = {
        (name, access.settings["template_language"], HEADERS.get(key), access.settings.get("template_parameters", ""))
        for access in accounts
        for name, key in templates_of(access.settings).items()
    }
    return {
        "accounts": {
            access.settings["phone_number_id"]: {
                "token": known.get(access.name, "token"),
                "display_phone_number": access.identity.removeprefix("+"),
                "name": authority.name,
            }
            for authority in authorities.values()
            for access in _on(Channel.WHATSAPP, {authority.code: authority})
        },
        "templates": [_registered(*template) for template in sorted(templates, key=str)],
        "app_secret": known.get(accounts[0].name, "app_secret"),
        "webhook_url": f"{api}/v1/webhooks/whatsapp",
    }


def _registered(name: str, language: str, header: str | None, parameters: str) -> dict[str, object]:
    names = parameter_names(parameters)
    body = TEMPLATE.format(*("{{" + each + "}}" for each in names or map(str, range(1, VARIABLES + 1))))
    template = {"name": name, "language": language, "header": header, "body": body, "ttl": 43_200}
    return template | {"variables": VARIABLES, "parameters": names}


def telegram_settings(authorities: Authorities, known: Secrets, api: str) -> dict[str, object]:
    """The bots and public channels of all authorities, and where their webhooks go."""
    accounts = list(_on(Channel.TELEGRAM, authorities))
    return {
        "accounts": {
            known.get(access.name, "token").partition(":")[0]: {
                "token": known.get(access.name, "token"),
                "username": access.settings.get("bot", "allerta_bot"),
                "webhook_url": f"{api}/v1/webhooks/telegram/{access.name}",
                "webhook_secret": known.get(access.name, "webhook_secret"),
            }
            for access in accounts
        },
        "channels": {
            access.settings["chat_id"]: {"id": -1001000000000 - number, "subscribers": [5001, 5002]}
            for number, access in enumerate(accounts, start=1)
        },
    }


def email_settings(authorities: Authorities, known: Secrets, api: str) -> dict[str, object]:
    """Who may hand in mail, under which address."""
    return {
        "accounts": {
            access.settings["username"]: {"password": known.get(access.name, "token"), "address": access.identity}
            for access in _on(Channel.EMAIL, authorities)
        },
    }


def sms_settings(authorities: Authorities, known: Secrets) -> dict[str, object]:
    """The users of all authorities, and who they may send as."""
    return {
        "accounts": {
            access.settings["user"]: {
                "password": known.get(access.name, "token"),
                "senders": [access.settings["sender"].removeprefix("+")],
            }
            for access in _on(Channel.SMS, authorities)
        }
    }


def web_push_settings() -> dict[str, object]:
    """Nothing: a browser says itself whose texts it takes, as it subscribes."""
    return {}


def mqtt_settings(authorities: Authorities) -> dict[str, object]:
    """The panels and sirens of all authorities."""
    return {
        "panels": [
            {"topic": panel.topic(authority.istat), "lines": panel.lines, "columns": panel.columns}
            for authority in authorities.values()
            for panel in authority.panels
        ]
    }


def _on(channel: Channel, authorities: Authorities) -> Iterator[ChannelAccess]:
    for authority in authorities.values():
        yield from (access for access in authority.channels if access.channel is channel)
