"""What a deployment decides: a missing setting says its name, a secret does not print."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from alerting.settings import MissingSetting, Secrets, Settings

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMQP_URL", "DATABASE_URL", "ALERTING_KEY", "ALERTING_SECRETS_FILE", "ALERTING_SHARE_OF_LIMIT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "variable"), [("amqp", "AMQP_URL"), ("database", "DATABASE_URL"), ("key_bytes", "ALERTING_KEY")]
)
def test_a_missing_setting_says_its_name_and_shows_one(name: str, variable: str) -> None:
    with pytest.raises(MissingSetting, match=rf"^{variable} is not set: give it as \S+"):
        getattr(Settings(), name)


def test_what_the_environment_says_is_read_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://calcinaia:segreto@rabbit:5672/")
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///allerta.db")
    monkeypatch.setenv("ALERTING_KEY", KEY)
    settings = Settings()
    assert settings.amqp == "amqp://calcinaia:segreto@rabbit:5672/"
    assert settings.database == "sqlite+aiosqlite:///allerta.db"
    assert settings.key_bytes == bytes.fromhex(KEY)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"whatsapp.calcinaia": {"token": "EAAsegreto"}}))
    settings = Settings(
        amqp_url=SecretStr("amqp://calcinaia:segreto@rabbit/"),
        database_url=SecretStr("postgresql+psycopg://calcinaia:segreto@db/allerta"),
        key=SecretStr(KEY),
        secrets_file=file,
    )
    assert settings.secrets.get("whatsapp.calcinaia", "token") == "EAAsegreto"
    for shown in (repr(settings), str(settings), repr(settings.secrets), settings.model_dump_json()):
        assert "segreto" not in shown
        assert KEY not in shown


@pytest.mark.parametrize("key", ["abc", KEY[:-1], KEY + "0", "zz" * 32, " " * 64])
def test_a_key_that_is_not_32_bytes_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValidationError, match="openssl rand -hex 32") as refused:
        Settings(key=SecretStr(key))
    assert key.strip() == "" or key not in str(refused.value)


@pytest.mark.parametrize("share", [0, -0.5, 1.01])
def test_nobody_can_ask_for_more_than_the_providers_limit_or_for_nothing(share: float) -> None:
    with pytest.raises(ValidationError, match="share_of_limit"):
        Settings(share_of_limit=share)


def test_no_setting_changes_while_a_process_runs() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().api_port = 9000  # type: ignore[misc]


def test_without_a_secrets_file_there_are_no_secrets_and_each_missing_one_is_named() -> None:
    secrets = Settings().secrets
    assert secrets.find("whatsapp.calcinaia", "token") is None
    with pytest.raises(MissingSetting, match=r"no 'token' for account whatsapp\.calcinaia"):
        secrets.get("whatsapp.calcinaia", "token")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ('["EAAsegreto"]', "has another shape"),
        ('{"whatsapp.calcinaia": "EAAsegreto"}', "has another shape"),
    ],
)
def test_a_spoilt_secrets_file_is_named_and_its_secrets_are_not(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(content)
    with pytest.raises(MissingSetting, match=says) as refused:
        _ = Settings(secrets_file=file).secrets
    assert str(file) in str(refused.value)
    assert "segreto" not in str(refused.value)


def test_a_secrets_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSetting, match="which does not exist"):
        _ = Settings(secrets_file=tmp_path / "secrets.json").secrets


def test_secrets_are_found_by_account_and_name() -> None:
    secrets = Secrets({"whatsapp.calcinaia": {"token": "EAA", "verify_token": 1234}})
    assert secrets.find("whatsapp.calcinaia", "verify_token") == "1234"
    assert secrets.find("telegram.calcinaia", "token") is None
