"""SMS, whichever way the provider of an account is spoken to: SMPP to an SMSC, or a REST API."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.delivery import ChannelHalted, Outcome
from consumers.channel import Account, Text
from consumers.channels.sms_http import SmsHttp
from consumers.channels.sms_smpp import SmsSmpp


class Sms:
    """Both protocols in one process: an account's setting `protocol` says which."""

    name = ChannelName.SMS

    def __init__(self, smpp: SmsSmpp, rest: SmsHttp) -> None:
        self._smpp = smpp
        self._rest = rest

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one telephone, in as many parts as it takes. Raises ChannelHalted and TextRejected."""
        match account.settings.get("protocol"):
            case "smpp":
                return await self._smpp.send(account, address, text, reference)
            case "rest":
                return await self._rest.send(account, address, text, reference)
            case _:
                raise ChannelHalted(account.name, "its protocol is neither smpp nor rest; correct the settings")

    async def close(self) -> None:
        """Close connections, and keep what was said on them. No send is under way."""
        await asyncio.gather(self._smpp.close(), self._rest.close())

    def beside(self, accounts: Callable[[], list[Account]]) -> dict[str, Coroutine[Any, Any, None]]:
        """What goes on while nobody is told anything: lines to SMSCs stay bound, and the others are asked."""

        def spoken_to_by(protocol: str) -> Callable[[], list[Account]]:
            return lambda: [account for account in accounts() if account.settings.get("protocol") == protocol]

        return {
            "lines to SMSCs": self._smpp.stay_bound(spoken_to_by("smpp")),
            "pairing": self._smpp.pairs.run(),
            "asking after SMS": self._rest.follow(spoken_to_by("rest")),
        }
