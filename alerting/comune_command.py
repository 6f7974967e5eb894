"""`python -m alerting comune check | new`: a new comune is a file, and one command that says what it still lacks."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from alerting import authorities
from alerting.authorities import AuthorityFileError, checkup, online
from alerting.authorities.skeleton import code_of, skeleton
from alerting.domain.authority import Authority
from alerting.domain.findings import Finding, Weight
from alerting.domain.recipients import AddressError
from alerting.settings import MissingSetting, Settings

app = typer.Typer(no_args_is_help=True, help="A comune's file: write a new one, and check what it still lacks.")

SAYS = {Weight.ERROR: "ERRORE", Weight.WARNING: "attenzione", Weight.NOTE: "nota"}
COLOURS = {Weight.ERROR: typer.colors.RED, Weight.WARNING: typer.colors.YELLOW, Weight.NOTE: typer.colors.BLUE}


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The comune's file, as buti.toml.")],
    ask_outside: Annotated[
        bool, typer.Option("--online", help="Also ask each provider whether the accounts work, and read the policy.")
    ] = False,
) -> None:
    """Say what is wrong or missing and what to do. 0 if it may speak, 1 if not, 2 if it cannot be read at all."""
    try:
        file.read_bytes()
    except OSError as trouble:
        typer.echo(f"{file}: non si può leggere: {trouble.strerror}", err=True)
        raise typer.Exit(2) from None
    settings = Settings()
    others: list[Authority] = []
    try:
        others += authorities.load(settings.authorities_folder).values()
    except AuthorityFileError as broken:
        # A file of the folder itself is among them: it is said once, below.
        for finding in broken.findings:
            if not finding.startswith(f"{file.name}:"):
                typer.echo(f"gli altri comuni: {finding}", err=True)
    authority, found = checkup.check(file, others)
    if authority is not None:
        found += _asked(authority, settings, ask_outside=ask_outside)
    _show(file, found)
    if authority is None and not any(one.rule != "file" for one in found):
        raise typer.Exit(2)
    raise typer.Exit(1 if any(one.weight is Weight.ERROR for one in found) else 0)


def _asked(authority: Authority, settings: Settings, *, ask_outside: bool) -> list[Finding]:
    try:
        secrets = settings.secrets
    except MissingSetting as missing:
        return [checkup.error("credenziali", str(missing))]
    if settings.secrets_file is None:
        return [
            checkup.warning(
                "credenziali", "ALERTING_SECRETS_FILE non è impostata: le credenziali non sono state guardate"
            )
        ]
    found = list(checkup.secrets_missing(authority, secrets))
    return found + (asyncio.run(online.ask(authority, settings)) if ask_outside else [])


def _show(file: Path, found: Sequence[Finding]) -> None:
    for one in found:
        where = f"{file.name}:{one.line}" if one.line else file.name
        typer.echo(f"{typer.style(SAYS[one.weight], fg=COLOURS[one.weight])} {where} [{one.rule}] {one.text}")
    errors = sum(one.weight is Weight.ERROR for one in found)
    typer.echo(
        f"{file.name}: {errors} errori, {len(found) - errors} altre osservazioni"
        if found
        else f"{file.name}: tutto a posto"
    )


@app.command()
def new(
    name: Annotated[str, typer.Option(help="As people read it: Comune di Buti.")],
    istat: Annotated[str, typer.Option(help="ISTAT's six digits: 050002.")],
    number: Annotated[str, typer.Option(help="The WhatsApp number people write to: +39 347 0000000.")],
    folder: Annotated[Path, typer.Option(help="Where the file is to be.")] = Path(),
) -> None:
    """Write the file of a comune that joins, with comments; `check` then says what only the comune can fill in."""
    file = folder / f"{code_of(name)}.toml"
    try:
        written = skeleton(name, istat, number)
        with file.open("x") as made:  # never over somebody's work
            made.write(written)
    except AddressError as wrong:
        typer.echo(f"{number}: non è un numero di telefono: {wrong}", err=True)
        raise typer.Exit(2) from None
    except OSError as trouble:
        typer.echo(f"{file}: non si può scrivere: {trouble.strerror}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"scritto {file}; ora: python -m alerting comune check {file}")
