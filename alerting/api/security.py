"""Who is asking, and what they may do. The roles are a table, and a token is kept as its hash only."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit
from alerting.actors import Actor, Role
from alerting.api.problems import Problem, refusal
from alerting.composing import Objection
from alerting.domain.authority import Authority
from alerting.persistence import Database, tables

TOKEN_BYTES = 32
LONGEST_NAME = 100


class Doing(Enum):
    """What the API can be asked to do, as far as roles tell it apart."""

    DRAFT = "draft an alert"
    APPROVE = "approve an alert"
    ISSUE = "issue an alert"
    CANCEL = "cancel an alert"
    READ = "read"
    PREVIEW = "preview an alert"
    ATTACH = "send pictures and documents"
    REGISTER = "register recipients"
    EXPORT = "hand somebody what is known of them"
    TEND = "tend dead letters"
    HAND_IN = "hand in what a source says"
    SETTLE = "decide on a document in quarantine"
    WATCH = "see what waits for the staff"
    ANSWER = "acknowledge a page"
    ACCOUNT = "see what texts cost"
    DESK = "work at the desk"


ALL = frozenset(Role)
STAFF = frozenset({Role.OPERATOR, Role.APPROVER, Role.ADMIN})

PERMITTED = {
    Doing.DRAFT: STAFF | {Role.FEED},
    Doing.APPROVE: frozenset({Role.APPROVER, Role.ADMIN}),
    Doing.ISSUE: STAFF,
    Doing.CANCEL: STAFF,
    Doing.READ: ALL,
    Doing.PREVIEW: ALL,
    Doing.ATTACH: STAFF,
    Doing.REGISTER: frozenset({Role.OPERATOR, Role.ADMIN}),
    Doing.EXPORT: frozenset({Role.ADMIN}),
    Doing.TEND: frozenset({Role.OPERATOR, Role.ADMIN}),
    Doing.HAND_IN: STAFF | {Role.FEED},
    Doing.SETTLE: STAFF,
    Doing.WATCH: STAFF | {Role.VIEWER},
    Doing.ANSWER: STAFF,
    Doing.ACCOUNT: STAFF,
    Doing.DESK: frozenset({Role.OPERATOR, Role.ADMIN, Role.DESK}),
}

bearer = HTTPBearer(auto_error=False, description="A token made with `python -m alerting token`.")


class NameTaken(Exception):
    """An actor's name is theirs for ever: approvals are compared by it."""


class NoSuchAuthority(Exception):
    """A token cannot be bound to an authority that is not enrolled."""


async def create_actor(session: AsyncSession, *, name: str, role: Role, authority: str | None, now: datetime) -> str:
    """A new actor, and their token, which is told this once. Raises NameTaken, NoSuchAuthority or ValueError."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"an actor's name has 1 to {LONGEST_NAME} letters: give another")
    if await session.scalar(select(tables.Actor.id).where(tables.Actor.name == name)):
        raise NameTaken(f"there is already an actor called {name!r}: names are never given twice, choose another")
    if authority is not None and await session.get(tables.Authority, authority) is None:
        raise NoSuchAuthority(f"no authority is called {authority!r} in this database: has `migrate` been run?")
    token = f"al_{secrets.token_urlsafe(TOKEN_BYTES)}"
    session.add(
        tables.Actor(name=name, role=role.value, authority=authority, token_hash=hash_of(token), created_at=now)
    )
    await audit.write(
        session,
        at=now,
        actor="command line",
        action="create actor",
        subject=name,
        role=role.value,
        authority=authority,
    )
    return token


def hash_of(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are 256 random bits: no salt and no slow hash would add to them."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


async def recognise(database: Database, authorization: str | None) -> Actor:
    """Whose token a request carries. Raises a 401 Problem, the same for a wrong one and for none that counts."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unknown("send a header Authorization: Bearer <token>")
    query = select(tables.Actor.name, tables.Actor.role, tables.Actor.authority).where(
        tables.Actor.token_hash == hash_of(token.strip()), tables.Actor.revoked_at.is_(None)
    )
    async with database.read() as session:
        found = (await session.execute(query)).one_or_none()
    if found is None:
        raise _unknown("this token is not known, or was revoked: ask an administrator for another")
    return Actor(found.name, Role(found.role), found.authority)


def may(doing: Doing) -> Callable[..., Awaitable[Actor]]:
    """A dependency: the actor, if their role permits it. Raises a 403 Problem."""

    # The scheme is here for OpenAPI: `routes.Guarded` has recognised the token before the body was read.
    async def permitted(request: Request, _: Any = Depends(bearer)) -> Actor:
        actor: Actor = request.state.actor
        if actor.role not in PERMITTED[doing]:
            who = ", ".join(sorted(role.value for role in PERMITTED[doing]))
            raise Problem(403, f"{actor.name} is {actor.role} and may not {doing.value}: ask somebody who is {who}")
        return actor

    return permitted


def authority_for(actor: Actor, asked: str | None, authorities: dict[str, Authority]) -> Authority:
    """The authority a request is about: the one it names, else the actor's. Raises Problem 422 or 403."""
    code = asked or actor.authority
    if code is None:
        known = ", ".join(authorities)
        raise refusal([Objection("authority", f"is missing, and your token is for all of them: one of {known}")])
    within(actor, code)
    if code not in authorities:
        raise refusal([Objection("authority", f"{code!r} is not known here: one of {', '.join(authorities)}")])
    return authorities[code]


def within(actor: Actor, authority: str) -> None:
    """Whoever is bound to one authority stays there. Raises a 403 Problem."""
    if actor.authority is not None and actor.authority != authority:
        raise Problem(
            403,
            f"{actor.name} is of {actor.authority} and cannot act for another authority: use a token of that one",
        )


def for_all(actor: Actor, because: str) -> None:
    """Some things concern every authority. Raises a 403 Problem for whoever is bound to one."""
    if actor.authority is not None:
        raise Problem(403, f"{actor.name} is of {actor.authority}, and {because}: use a token that is for all of them")


def _unknown(sentence: str) -> Problem:
    return Problem(401, sentence, headers={"WWW-Authenticate": "Bearer"})
