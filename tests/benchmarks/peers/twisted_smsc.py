"""An SMSC by others: the codec and the server of smpp.twisted3, told apart from ours by every line of it.

Runs in an environment of its own: `python twisted_smsc.py PORT`. Prints what it understands of each submit_sm, one JSON
object a line; accepts it under an id of its own, and reports it delivered.
"""

# mypy: ignore-errors

import json
import sys

from smpp.pdu.operations import DeliverSM
from smpp.pdu.pdu_types import (
    AddrNpi,
    AddrTon,
    CommandStatus,
    EsmClass,
    EsmClassMode,
    EsmClassType,
    MessageState,
)
from smpp.twisted.config import SMPPServerConfig
from smpp.twisted.protocol import DataHandlerResponse
from smpp.twisted.server import SMPPServerFactory
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor

USER, PASSWORD = "fornacette", "Arno1966"
_taken = 0


class Portal:
    """Lets one user in."""

    def login(self, credentials, mind, interface):
        if (credentials.username, credentials.password) != (USER, PASSWORD):
            raise UnauthorizedLogin
        return interface, credentials.username, lambda: None


def submitted(system_id, smpp, pdu):
    global _taken
    _taken += 1
    said = pdu.params
    understood = {
        "source": said["source_addr"].decode(),
        "source_ton": said["source_addr_ton"].name,
        "destination": said["destination_addr"].decode(),
        "destination_ton": said["dest_addr_ton"].name,
        "features": [feature.name for feature in said["esm_class"].gsmFeatures],
        "coding": said["data_coding"].schemeData.name,
        "validity": list(said["validity_period"]) if said["validity_period"] else None,
        "receipt": said["registered_delivery"].receipt.name,
        "octets": said["short_message"].hex(),
    }
    print(json.dumps(understood), flush=True)
    name = f"peer-{_taken}"
    reactor.callLater(0.05, report, smpp, said, name)
    return DataHandlerResponse(status=CommandStatus.ESME_ROK, message_id=name.encode())


def report(smpp, said, name):
    words = f"id:{name} sub:001 dlvrd:001 submit date:2611260700 done date:2611260700 stat:DELIVRD err:000 text:"
    smpp.sendDataRequest(
        DeliverSM(
            source_addr_ton=AddrTon.INTERNATIONAL,
            source_addr_npi=AddrNpi.ISDN,
            source_addr=said["destination_addr"],
            destination_addr=said["source_addr"],
            esm_class=EsmClass(EsmClassMode.DEFAULT, EsmClassType.SMSC_DELIVERY_RECEIPT),
            short_message=words.encode(),
            receipted_message_id=name.encode(),
            message_state=MessageState.DELIVERED,
        )
    )


if __name__ == "__main__":
    config = SMPPServerConfig(msgHandler=submitted, systems={USER: {"max_bindings": 10}})
    reactor.listenTCP(int(sys.argv[1]), SMPPServerFactory(config, Portal()), interface="127.0.0.1")
    reactor.run()
