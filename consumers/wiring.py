"""Settings → channels: an explicit list. A new channel is one line here."""

from alerting.domain.delivery import Channel
from alerting.persistence import Database, tables
from alerting.settings import Settings
from consumers.channel import Account, ChannelAdapter, Secret
from consumers.channels.telegram import Telegram
from consumers.channels.whatsapp import WhatsApp


def adapter(channel: Channel) -> ChannelAdapter:
    """The one provider of each channel. Call it inside a running event loop."""
    match channel:
        case Channel.WHATSAPP:
            return WhatsApp()
        case Channel.TELEGRAM:
            return Telegram()


class Accounts:
    """The channel accounts of all authorities, with their credentials."""

    def __init__(self, accounts: dict[str, Account]) -> None:
        self._accounts = accounts

    def get(self, name: str) -> Account:
        """The account. Raises KeyError where no authority has it."""
        return self._accounts[name]

    @classmethod
    async def load(cls, database: Database, settings: Settings, channel: Channel) -> "Accounts":
        """Those of one channel. Raises MissingSetting where one has no credential: better now than at three."""
        async with database.read() as session:
            rows = (await session.scalars(tables.of_channel(channel))).all()
        return cls({row.name: _account(row, settings) for row in rows})


def _account(row: tables.ChannelAccount, settings: Settings) -> Account:
    token = Secret(settings.secrets.get(row.name, "token"))
    match row.channel:
        case Channel.WHATSAPP:
            own = {"api_version": settings.whatsapp_api_version, **row.settings}
            return Account(row.name, row.channel, settings.whatsapp_url, token, own)
        case Channel.TELEGRAM:
            return Account(row.name, row.channel, settings.telegram_url, token, dict(row.settings))
