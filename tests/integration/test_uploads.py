"""A picture goes to a provider once, whoever sends it and however many."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from alerting.domain.delivery import Channel
from alerting.persistence import Database
from consumers.channel import Account, Attachment, Secret
from consumers.uploads import Uploads

MAP = Attachment("mappa.jpg", "image/jpeg", b"Fornacette", sha256="5e" * 32)
MONTH = timedelta(days=30)


def account(name: str = "telegram.calcinaia", paced_as: str = "telegram.calcinaia") -> Account:
    return Account(name, "calcinaia", Channel.TELEGRAM, "http://127.0.0.1", Secret("…"), {}, paced_as)


class Provider:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.uploaded = 0

    async def upload(self) -> str:
        await asyncio.sleep(0)
        self.uploaded += 1
        return f"file-{self.uploaded}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def test_a_crowd_that_needs_the_same_picture_uploads_it_once(database: Database) -> None:
    uploads, provider = Uploads(database), Provider()
    ids = await asyncio.gather(*(uploads.id_of(account(), MAP, provider.upload, MONTH) for _ in range(50)))
    assert set(ids) == {"file-1"}
    assert provider.uploaded == 1


async def test_another_process_and_another_comune_on_the_number_find_the_id(database: Database) -> None:
    provider = Provider()
    await Uploads(database).id_of(account(), MAP, provider.upload, MONTH)
    neighbour = account(name="telegram.bientina")
    assert await Uploads(database).id_of(neighbour, MAP, provider.upload, MONTH) == "file-1"


async def test_an_id_is_another_accounts_and_ends_with_its_time(database: Database) -> None:
    uploads, provider = Uploads(database), Provider()
    await uploads.id_of(account(), MAP, provider.upload, timedelta(0))
    assert await uploads.id_of(account(), MAP, provider.upload, MONTH) == "file-2"
    other = account(name="telegram.cascina", paced_as="telegram.cascina")
    assert await uploads.id_of(other, MAP, provider.upload, MONTH) == "file-3"


async def test_what_failed_is_tried_again_and_what_is_forgotten_uploaded_anew(database: Database) -> None:
    uploads, provider = Uploads(database), Provider()

    async def fails() -> str:
        raise ConnectionError("the line died")

    with pytest.raises(ConnectionError):
        await uploads.id_of(account(), MAP, fails, MONTH)
    assert await uploads.id_of(account(), MAP, provider.upload, MONTH) == "file-1"
    await uploads.forget(account(), MAP)
    assert await Uploads(database).id_of(account(), MAP, provider.upload, MONTH) == "file-2"


async def test_a_crowd_that_hears_that_one_id_is_wrong_uploads_once_more_and_no_oftener(database: Database) -> None:
    uploads, provider = Uploads(database), Provider()
    assert await uploads.id_of(account(), MAP, provider.upload, MONTH) == "file-1"

    async def one() -> str:
        await uploads.forget(account(), MAP, "file-1")
        return await uploads.id_of(account(), MAP, provider.upload, MONTH)

    assert set(await asyncio.gather(*(one() for _ in range(30)))) == {"file-2"}
    assert await one() == "file-2", "whoever hears it late forgets nothing newer"
    assert await Uploads(database).id_of(account(), MAP, provider.upload, MONTH) == "file-2"


async def test_a_process_that_remembers_nothing_forgets_the_wrong_id_and_no_newer_one(database: Database) -> None:
    provider = Provider()
    await Uploads(database).id_of(account(), MAP, provider.upload, MONTH)
    await Uploads(database).forget(account(), MAP, "an older one")
    assert await Uploads(database).id_of(account(), MAP, provider.upload, MONTH) == "file-1"
    await Uploads(database).forget(account(), MAP, "file-1")
    assert await Uploads(database).id_of(account(), MAP, provider.upload, MONTH) == "file-2"
