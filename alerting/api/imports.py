"""A whole list of people who agreed elsewhere, brought along over HTTP. Rows are named by line, addresses never."""

import asyncio
import re
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from alerting import importing
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import ImportedRow, ImportOut, ImportReason
from alerting.api.security import Doing, authority_for, may
from alerting.composing import Objection
from alerting.domain.delivery import Channel
from alerting.importing import Declared, Finding, Import, NoChannel, Outcome
from alerting.roster_lines import NoList

MOST_FINDINGS = 1_000
HASH = re.compile(r"[0-9a-fA-F]{64}")


class TakesLists(Guarded):
    """A route for whole lists: a million people fit in its limit."""

    most_bytes = 200_000_000


router = APIRouter(prefix="/recipients/imports", tags=["recipients"], route_class=TakesLists)

CSV = {"text/csv": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    summary="Bring along the people of a list",
    openapi_extra={"requestBody": {"required": True, "content": CSV}},
)
async def bring(
    request: Request,
    authority: Annotated[str | None, Query(max_length=64)] = None,
    proof: Annotated[
        str | None, Query(max_length=200, description="Where the proof is kept that all agreed: determina 123/2026.")
    ] = None,
    proof_sha256: Annotated[
        str | None, Query(max_length=64, description="The SHA-256 of the document that all agreed, in hexadecimal.")
    ] = None,
    channel: Annotated[Channel | None, Query(description="Where telephones are told; WhatsApp if there is.")] = None,
    dry_run: Annotated[bool, Query(description="Look only, write nothing.")] = False,
    strict: Annotated[bool, Query(description="Nobody, where one row cannot be taken.")] = False,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.REGISTER)),
) -> ImportOut:
    """A CSV with a header, in any usual encoding and separator. Without `proof` or `proof_sha256` each row has its own.

    Who had left stays away, who is there stays as they are; the same list again changes nothing. `rows` are the first
    1,000 that did not simply join, by their line.
    """
    whose = authority_for(actor, authority, parts.authorities)
    what = Import(
        whose,
        _declared(proof, proof_sha256),
        channel,
        dry_run=dry_run,
        strict=strict,
        part=importing.PART_BESIDE_OTHERS,
    )
    found: list[Finding] = []

    def put(finding: Finding) -> None:
        if len(found) < MOST_FINDINGS and (finding.outcome is not Outcome.NEW or finding.why):
            found.append(finding)

    # On disk, without a name: it is read as it was sent, piece by piece, and a strict list twice.
    with TemporaryFile() as file:
        async for piece in request.stream():
            await asyncio.to_thread(file.write, piece)
        file.seek(0)
        try:
            tally = await importing.bring(
                parts.database, file, what, parts.seal, actor=actor.name, now=datetime.now(UTC), report=put
            )
        except NoList as wrong:
            raise Problem(422, str(wrong)) from None
        except NoChannel as none:
            raise refusal([Objection("channel", str(none))]) from None
    count = tally.outcomes
    return ImportOut(
        authority=whose.code,
        written=tally.written,
        created=count[Outcome.NEW],
        completed=count[Outcome.COMPLETED],
        existing=count[Outcome.EXISTING],
        twice=count[Outcome.TWICE],
        left=count[Outcome.HAS_LEFT],
        refused=count[Outcome.REFUSED],
        columns=list(tally.columns),
        encodings={encoding.value: number for encoding, number in tally.encodings.items()},
        reasons=[
            ImportReason(code=why.name.lower(), detail=why.value, rows=number)
            for why, number in tally.whys.most_common()
        ],
        rows=[
            ImportedRow(line=one.line, outcome=one.outcome.name.lower(), reasons=[why.name.lower() for why in one.why])
            for one in found
        ],
    )


def _declared(proof: str | None, sha256: str | None) -> Declared | None:
    if proof is None and sha256 is None:
        return None
    if sha256 is not None and not HASH.fullmatch(sha256):
        raise refusal([Objection("proof_sha256", "is no SHA-256: write its 64 hexadecimal digits, as sha256sum does")])
    try:
        said = importing.reference(proof) if proof is not None else Declared()
    except ValueError as wrong:
        raise refusal([Objection("proof", str(wrong))]) from None
    return Declared(bytes.fromhex(sha256) if sha256 else None, said.reference)
