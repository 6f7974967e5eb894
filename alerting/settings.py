"""What a deployment decides, read once at the edge. A missing setting says its name; secrets do not print."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from alerting.domain.notices import Matter, Staff


class Settings(BaseSettings):
    """Everything a process needs from its environment."""

    model_config = SettingsConfigDict(env_prefix="ALERTING_", frozen=True, populate_by_name=True)

    amqp_url: SecretStr = Field(default=SecretStr(""), validation_alias="AMQP_URL")
    database_url: SecretStr = Field(default=SecretStr(""), validation_alias="DATABASE_URL")
    amqp_prefix: str = ""
    """Put before the name of every exchange and queue, so that several systems may share a broker."""

    key: SecretStr = SecretStr("")
    """32 random bytes in hexadecimal: seals addresses and keys their fingerprints. Lost key, lost addresses."""

    secrets_file: Path | None = None
    """JSON: {"<account>": {"token": …, "app_secret": …, "verify_token": …}}. Readable by its owner only."""

    authorities_folder: Path | None = None
    """A folder of TOML files, one per authority; the five that ship with the system where it is not given."""

    sources_folder: Path | None = None
    """A folder of TOML files, one per source that feeds us; those that ship with the system where it is not given."""

    public_url: str = ""
    """Where everybody finds this API, as feeds say it: https://allerta.example. Empty: where each request came to."""

    map_tiles: str = ""
    """Where maps take their background from: https://tiles.example/{z}/{x}/{y}.png. Empty: outlines alone, offline."""
    map_attribution: str = ""

    api_host: str = "127.0.0.1"
    api_port: int = 8000
    webhooks_port: int = 8001
    metrics_host: str = Field(default="127.0.0.1", validation_alias="METRICS_HOST")
    metrics_port: int = Field(default=0, validation_alias="METRICS_PORT")
    """Where this process shows its /metrics; 0 for nowhere."""

    whatsapp_url: str = Field(default="https://graph.facebook.com", validation_alias="WHATSAPP_URL")
    whatsapp_api_version: str = Field(default="v26.0", validation_alias="WHATSAPP_API_VERSION")
    telegram_url: str = Field(default="https://api.telegram.org", validation_alias="TELEGRAM_URL")
    email_url: str = Field(default="", validation_alias="EMAIL_URL")
    """One mail server for all accounts, as trials have it: smtp://127.0.0.1:9125. Empty: the `url` of each account."""
    sms_url: str = Field(default="", validation_alias="SMS_URL")
    """Where trials have their SMS provider, smpp://…; in service each account names its own."""
    sms_rest_url: str = Field(default="", validation_alias="SMS_REST_URL")
    """The same for accounts whose provider is spoken to over HTTP."""

    staff: Annotated[dict[str, frozenset[Matter]], NoDecode] = {}
    """Who hears of all comuni, and of what: {"sistemisti": ["halts", "feeds"]}. Where they read it is a secret, the
    `url` of the account staff.sistemisti."""

    web_push_hosts: str = Field(default="", validation_alias="WEB_PUSH_HOSTS")
    """Where trials have their push service, without TLS: 127.0.0.1:9106. Never in service: there the list is fixed."""

    mqtt_url: str = Field(default="", validation_alias="MQTT_URL")
    """Where trials have their MQTT broker, mqtt://…; in service each account names its own."""

    share_of_limit: float = Field(default=0.95, gt=0, le=1)
    """How much of a provider's published limit is used. Trials and benchmarks set 1.0."""

    retention_months: int = Field(default=24, ge=1, le=120)
    """How long the proofs of somebody who left still say whose they are."""
    inbox_days: int = Field(default=30, ge=1, le=365)
    """How long what citizens wrote is kept, sealed, where a desk reads it, and what they were answered."""

    log_format: str = "json"

    @field_validator("key")
    @classmethod
    def _key_is_32_bytes(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if text and (len(text) != 64 or not all(c in "0123456789abcdefABCDEF" for c in text)):
            raise ValueError("must be 64 hexadecimal digits; make one with: openssl rand -hex 32")
        return key

    @field_validator("staff", mode="before")
    @classmethod
    def _staff_are_json(cls, staff: object) -> object:
        if not isinstance(staff, str):
            return staff
        try:
            return json.loads(staff) if staff.strip() else {}  # docker-compose.yml says nothing by an empty text
        except ValueError:
            raise ValueError('is not JSON: write it as in {"sistemisti": ["halts", "feeds"]}') from None

    @field_validator("staff")
    @classmethod
    def _staff_have_names(cls, staff: dict[str, frozenset[Matter]]) -> dict[str, frozenset[Matter]]:
        for name in staff:
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,63}", name):
                raise ValueError(f"{name!r} is no short name in small letters: write it as in sistemisti")
        return staff

    @field_validator("map_tiles")
    @classmethod
    def _tiles_are_a_template(cls, tiles: str) -> str:
        if tiles and not (tiles.startswith("https://") and all(part in tiles for part in ("{z}", "{x}", "{y}"))):
            raise ValueError("must be an https:// address with {z}, {x} and {y} in it, or empty for no tiles")
        return tiles

    @property
    def push_hosts(self) -> frozenset[str]:
        """Push services besides those that browsers have."""
        return frozenset(host.strip() for host in self.web_push_hosts.split(",") if host.strip())

    @property
    def amqp(self) -> str:
        return self._required("amqp_url", "AMQP_URL", "amqp://user:password@host:5672/%2F")

    @property
    def database(self) -> str:
        return self._required("database_url", "DATABASE_URL", "postgresql+psycopg://user:password@host/alerting")

    @property
    def key_bytes(self) -> bytes:
        return bytes.fromhex(self._required("key", "ALERTING_KEY", "64 hexadecimal digits: openssl rand -hex 32"))

    def _required(self, field: str, variable: str, example: str) -> str:
        secret: SecretStr = getattr(self, field)
        if not (value := secret.get_secret_value()):
            raise MissingSetting(f"{variable} is not set: give it as {example}")
        return value

    @property
    def staff_of_all(self) -> tuple[Staff, ...]:
        return tuple(Staff(name, matters) for name, matters in self.staff.items())

    @cached_property
    def secrets(self) -> "Secrets":
        """The credentials of the channel accounts. Empty where no file is named."""
        if self.secrets_file is None:
            return Secrets({})
        try:
            by_account = json.loads(self.secrets_file.read_text())
        except FileNotFoundError:
            raise MissingSetting(f"ALERTING_SECRETS_FILE names {self.secrets_file}, which does not exist") from None
        except ValueError as error:
            raise MissingSetting(f"{self.secrets_file} is not JSON: {error}") from None
        if not isinstance(by_account, dict) or not all(isinstance(one, dict) for one in by_account.values()):
            raise MissingSetting(f'{self.secrets_file} has another shape than {{"<account>": {{"token": "…"}}}}')
        return Secrets(by_account)


class Secrets:
    """Credentials by account and name. Prints nothing of what it holds."""

    def __init__(self, by_account: dict[str, dict[str, Any]]) -> None:
        self._by_account = by_account

    def get(self, account: str, name: str) -> str:
        """The secret, or an error that says where it is missing."""
        try:
            return str(self._by_account[account][name])
        except KeyError:
            raise MissingSetting(
                f"the secrets file has no {name!r} for account {account}: add it before this account can be used"
            ) from None

    def find(self, account: str, name: str) -> str | None:
        """The secret, or None."""
        value = self._by_account.get(account, {}).get(name)
        return None if value is None else str(value)

    def __repr__(self) -> str:
        return f"Secrets({len(self._by_account)} accounts)"


class MissingSetting(Exception):
    """A deployment lacks something this process cannot do without."""
