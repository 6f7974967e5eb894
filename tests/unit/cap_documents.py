"""A CAP message that is in order, how to break it, and where the real ones are."""

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[2].parent / "shared/data"

GOOD = """<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>it.pi.calcinaia.2026.0007</identifier>
  <sender>protezionecivile@comune.calcinaia.pi.it</sender>
  <sent>2026-11-21T09:00:00+01:00</sent>
  <status>Actual</status>
  <msgType>Update</msgType>
  <scope>Public</scope>
  <code>it.comune:1</code>
  <references>protezionecivile@comune.calcinaia.pi.it,it.pi.calcinaia.2026.0006,2026-11-21T07:30:00+01:00</references>
  <incidents>"Piena dell'Arno" argine</incidents>
  <info>
    <language>it-IT</language>
    <category>Met</category>
    <category>Safety</category>
    <event>Allerta arancione rischio idraulico</event>
    <responseType>Prepare</responseType>
    <urgency>Expected</urgency>
    <severity>Severe</severity>
    <certainty>Likely</certainty>
    <audience>Chi abita vicino all'argine</audience>
    <eventCode><valueName>it.evento</valueName><value>piena</value></eventCode>
    <effective>2026-11-21T09:00:00+01:00</effective>
    <onset>2026-11-21T14:00:00+01:00</onset>
    <expires>2026-11-22T00:00:00+01:00</expires>
    <senderName>Protezione civile Comune di Calcinaia</senderName>
    <headline>Allerta arancione per rischio idraulico a Fornacette</headline>
    <description>Piena dell'Arno attesa dalle 14.</description>
    <instruction>Spostati ai piani alti.</instruction>
    <web>https://www.comune.calcinaia.pi.it/allerta</web>
    <contact>0587 265411</contact>
    <parameter><valueName>it.colore</valueName><value>arancione</value></parameter>
    <resource>
      <resourceDesc>Mappa</resourceDesc>
      <mimeType>image/png</mimeType>
      <size>5</size>
      <derefUri>RmFub28=</derefUri>
      <digest>8103b1d80af453ea77576d3d51ee625a95d5775f</digest>
    </resource>
    <area>
      <areaDesc>Fornacette</areaDesc>
      <polygon>43.660,10.565 43.660,10.595 43.675,10.595 43.675,10.565 43.660,10.565</polygon>
      <circle>43.6702,10.5851 2.5</circle>
      <geocode><valueName>ISTAT_COMUNE</valueName><value>050004</value></geocode>
      <altitude>40</altitude>
      <ceiling>160.5</ceiling>
    </area>
  </info>
</alert>
"""
RING = "43.660,10.565 43.660,10.595 43.675,10.595 43.675,10.565 43.660,10.565"


def changed(*pairs: tuple[str, str], of: str = GOOD) -> bytes:
    """The good message with each first text replaced by the second, which must be there once at least."""
    for old, new in pairs:
        assert old in of, f"{old} is not in the message"
        of = of.replace(old, new)
    return of.encode()


def without(element: str, of: str = GOOD) -> bytes:
    """The good message without the lines of one element."""
    lines = [line for line in of.splitlines(keepends=True) if not line.strip().startswith(f"<{element}>")]
    assert len(lines) < len(of.splitlines()), f"there is no {element}"
    return "".join(lines).encode()


def line_of(text: str, raw: bytes) -> int:
    """The line in which a text stands first."""
    return raw.decode()[: raw.decode().index(text)].count("\n") + 1


def shared(folder: str) -> Path:
    """A folder of the real material, or a skip that says what is missing."""
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the real documents are not here: {SHARED / folder}")
    return SHARED / folder


def told(name: str) -> list[dict[str, Any]]:
    """What the list beside the real documents says about each; none where it is absent."""
    file = SHARED / name
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    return rows
