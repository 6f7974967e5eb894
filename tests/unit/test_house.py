"""The house itself: what a newcomer finds at the door, and whether the papers agree with each other."""

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("geo", "alerting", "consumers", "dashboards", "tests")

AT_THE_TOP = {
    *("README.md", "LICENSE", "CHANGELOG.md", "publiccode.yml"),
    *("pyproject.toml", "requirements.lock", "requirements-dev.lock"),
    *("Makefile", "Procfile", "Dockerfile", "docker-compose.yml", ".dockerignore", ".gitignore", ".ci"),
    *PACKAGES,
}

NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "manager", "service", "base"}

# In pieces, or this file would be the one that names them.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("proxy.golang", "org"),
    )
)


def _files_of_the_project() -> list[Path]:
    """Tracked, or about to be: git knows what is left out, and says so without a commit too."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip(f"git does not say which files belong to the project: {listed.stderr.strip()}")
    return [file for name in listed.stdout.split("\0") if name and (file := ROOT / name).is_file()]


def _modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def _compose() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def _procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines if line)}


def test_compose_runs_every_process_as_the_procfile_does() -> None:
    in_service = {
        name: service["command"]
        for name, service in _compose().items()
        if service["image"] == "allerta" and name != "migrate" and "profiles" not in service
    }
    assert in_service == _procfile()


def test_any_number_of_delivery_workers_may_run() -> None:
    fixed = {
        name
        for name, service in _compose().items()
        if name.startswith("deliver-") and ("container_name" in service or "ports" in service)
    }
    assert not fixed, "a second container could have neither this name nor this port"


def test_compose_publishes_on_loopback_only() -> None:
    published = [port for service in _compose().values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not str(port).startswith("127.0.0.1:")] == []


def test_compose_writes_down_no_secret() -> None:
    secrets = {
        f"{name}: {key}": value
        for name, service in _compose().items()
        for key, value in service.get("environment", {}).items()
        if re.search("PASS|KEY|SECRET|_URL$", key) and not value.startswith(("/run/secrets/", "${"))
    }
    assert [key for key, value in secrets.items() if not re.search(r":\$\{\w+:\?[^}]+\}@", value)] == []


def test_docker_accepts_the_compose_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker command on this machine")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker is here, but not its compose plugin")
    wanted = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())
    checked = subprocess.run(
        ["docker", "compose", "-f", "docker-compose.yml", "config", "--quiet"],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(wanted, "Fornacette"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_versions_and_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(entries) > 20
    assert [entry for entry in entries if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry)] == []
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\w+://\S+|--(?:extra-)?index-url.*|--find-links.*", text) == []


def test_the_development_lock_has_the_same_versions_as_the_one_in_service() -> None:
    in_service, in_development = (
        dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert in_service
    assert {name: in_development.get(name) for name in in_service} == in_service


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    silent = []
    for file in _modules():
        tree = ast.parse(file.read_text())
        said = ast.get_docstring(tree)
        starts_with_it = tree.body and tree.body[0].lineno == 1
        if not said or not starts_with_it:
            silent.append(str(file.relative_to(ROOT)))
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [file for file in _modules() if {file.stem, file.parent.name} & NAMES_THAT_SAY_NOTHING] == []


def test_the_top_folder_holds_what_people_expect_there() -> None:
    found = {file.relative_to(ROOT).parts[0] for file in _files_of_the_project()}
    assert found - AT_THE_TOP == set()
    assert {"README.md", "LICENSE", "Makefile", ".ci"} <= found


def test_no_registry_is_named_anywhere() -> None:
    named = []
    for file in _files_of_the_project():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or the like: no text
        named += [f"{file.relative_to(ROOT)}: {host}" for host in REGISTRIES if host in text]
    assert named == []


def test_make_help_lists_every_target() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^ *make ([\w-]+)", told, flags=re.MULTILINE)) == set(phony[1].split())


def test_ci_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)", script.read_text(), flags=re.MULTILINE) == ["lint", "test", "soak"]


def test_the_licence_is_the_one_the_package_claims() -> None:
    assert 'license = "EUPL-1.2"' in (ROOT / "pyproject.toml").read_text()
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("EUROPEAN UNION PUBLIC LICENCE v. 1.2")
