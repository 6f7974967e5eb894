"""Settings → channels: an explicit list. A new channel is one line here."""

from collections.abc import Coroutine
from typing import Any

from alerting import authorities, vapid
from alerting.desk.handing import Desks
from alerting.domain.delivery import Channel
from alerting.persistence import Database, tables
from alerting.postmarks import Postmarks
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.sms_inbox import SmsInbox
from consumers.channel import Account, ChannelAdapter, Secret
from consumers.channels.email import Email
from consumers.channels.mqtt import Mqtt
from consumers.channels.sms import Sms
from consumers.channels.sms_http import SmsHttp
from consumers.channels.sms_smpp import SmsSmpp
from consumers.channels.telegram import Telegram
from consumers.channels.web_push import WebPush
from consumers.channels.whatsapp import WhatsApp
from consumers.chats import Chats
from consumers.leaving import Leaving
from consumers.pairing import Pairing
from consumers.panels import Signage
from consumers.polling import Polling
from consumers.uploads import Uploads


def adapter(channel: Channel, settings: Settings, database: Database, seal: Seal) -> ChannelAdapter:
    """The one provider of each channel. Call it inside a running event loop."""
    match channel:
        case Channel.WHATSAPP:
            return WhatsApp(Uploads(database))
        case Channel.TELEGRAM:
            return Telegram(Uploads(database), Chats(database, seal))
        case Channel.EMAIL:
            return Email(Postmarks(settings.key_bytes), settings.public_url)
        case Channel.SMS:
            inbox = SmsInbox(database, seal, Desks(authorities.load(settings.authorities_folder)))
            return Sms(SmsSmpp(Pairing(database, seal), inbox), SmsHttp(Polling(database)))
        case Channel.WEB_PUSH:
            leaving = Leaving(database, seal, authorities.load(settings.authorities_folder))
            return WebPush(Postmarks(settings.key_bytes), leaving, settings.push_hosts)
        case Channel.MQTT:
            return Mqtt(Signage(database))


def beside(adapter: ChannelAdapter, accounts: "Accounts") -> dict[str, Coroutine[Any, Any, None]]:
    """What an adapter does while nobody is told anything: an SMSC says on the same line what became of each text."""
    if isinstance(adapter, WebPush) and isinstance(adapter.leavers, Leaving):
        return {"erasing who has gone": adapter.leavers.run()}
    if isinstance(adapter, Sms):
        return adapter.beside(accounts.known)
    if isinstance(adapter, Mqtt):  # it takes down what has ended, and hears what panels say
        return {"panels": adapter.stay_connected(accounts.known)}
    return {}


class Accounts:
    """The channel accounts of all authorities, with their credentials."""

    def __init__(self, database: Database, settings: Settings, channel: Channel) -> None:
        self._database = database
        self._settings = settings
        self._channel = channel
        self._accounts: dict[str, Account] = {}

    async def get(self, name: str) -> Account:
        """The account, looked for anew where it is not known: a comune may have joined since we started.

        Raises KeyError where no authority has it, MissingSetting where it has no credential.
        """
        if name not in self._accounts:
            await self.read()
        return self._accounts[name]

    def known(self) -> list[Account]:
        """Those that were read so far."""
        return list(self._accounts.values())

    async def read(self) -> None:
        """All of the channel. Raises MissingSetting where one has no credential: better at start than at three."""
        async with self._database.read() as session:
            rows = (await session.scalars(tables.of_channel(self._channel))).all()
        self._accounts = {row.name: _account(row, self._settings) for row in rows}


CREDENTIAL = {Channel.WEB_PUSH: vapid.SECRET}
"""What an account's credential is called, where it is no token. One number has one, whoever speaks."""


def _account(row: tables.ChannelAccount, settings: Settings) -> Account:
    base_url, own = _provider(row, settings)
    return Account(
        name=row.name,
        authority=row.authority,
        channel=row.channel,
        base_url=base_url,
        token=Secret(settings.secrets.get(row.paced_as, CREDENTIAL.get(row.channel, "token"))),
        settings=own | row.settings,
        paced_as=row.paced_as,
        portfolio=row.portfolio,
        identity=row.identity,
        micro_euro=row.micro_euro,
    )


def _provider(row: tables.ChannelAccount, settings: Settings) -> tuple[str, dict[str, str]]:
    """Where a channel's provider is, and what all its accounts are told."""
    match row.channel:
        case Channel.WHATSAPP:
            return settings.whatsapp_url, {"api_version": settings.whatsapp_api_version}
        case Channel.TELEGRAM:
            return settings.telegram_url, {}
        case Channel.EMAIL:  # everybody has another provider
            return settings.email_url or row.settings.get("url", ""), {}
        case Channel.SMS:
            of_trials = settings.sms_rest_url if row.settings.get("protocol") == "rest" else settings.sms_url
            return of_trials or row.settings.get("url", ""), {}
        case Channel.WEB_PUSH:  # each browser has its own, and names it
            return "", {}
        case Channel.MQTT:
            return settings.mqtt_url or row.settings.get("url", ""), {}
