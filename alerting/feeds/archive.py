"""A zip archive from outside, opened in memory: bounded in every way, and nothing ever written to disk."""

import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from alerting.domain.findings import Finding, Weight

MOST_BYTES = 32 * 1024 * 1024
"""The national archive has about 4.6 MB, most of it shapes and a PDF."""
MOST_MEMBERS = 64
"""The national archive has about a dozen."""
MOST_MEMBER_BYTES = 8 * 1024 * 1024

END_RECORD, END_RECORD_LENGTH = b"PK\x05\x06", 22
LONGEST_COMMENT = 0xFFFF
ENCRYPTED = 0x1

BROKEN = (BadZipFile, RuntimeError, ValueError, EOFError, OSError, struct.error, zlib.error)
"""What the standard library raises for archives that are cut, forged or of a kind it does not know."""


class ArchiveUnreadable(Exception):
    """There is no telling what is in it. The sentence says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The wanted members by their name without folders, and what is wrong with the others."""

    members: dict[str, bytes]
    findings: tuple[Finding, ...]


def read(raw: bytes, wanted: re.Pattern[str]) -> Archive:
    """The members whose name, without folders, is `wanted`; one that cannot be read is a finding, not the end.

    Raises ArchiveUnreadable when it is no archive, or one that is made to exhaust whoever opens it.
    """
    if len(raw) > MOST_BYTES:
        raise ArchiveUnreadable(f"the archive has {len(raw)} bytes, more than the {MOST_BYTES} that are opened")
    _look_at_the_end(raw)
    try:
        with ZipFile(BytesIO(raw)) as opened:
            return _members(opened, wanted)
    except BROKEN as error:
        raise ArchiveUnreadable(f"this is not a zip archive that can be opened ({error}); fetch it again") from error


def _look_at_the_end(raw: bytes) -> None:
    """Before the library builds an object for each of a million entries."""
    at = raw.rfind(END_RECORD, -(END_RECORD_LENGTH + LONGEST_COMMENT))
    if at < 0 or len(raw) - at < END_RECORD_LENGTH:
        raise ArchiveUnreadable("this is not a zip archive, or it is cut off: it has no end record; fetch it again")
    (claimed,) = struct.unpack_from("<H", raw, at + 10)
    if claimed > MOST_MEMBERS:
        raise ArchiveUnreadable(f"the archive has {claimed} members, more than the {MOST_MEMBERS} that are looked at")


def _members(opened: ZipFile, wanted: re.Pattern[str]) -> Archive:
    members: dict[str, bytes] = {}
    findings: list[Finding] = []
    infos = opened.infolist()
    if len(infos) > MOST_MEMBERS:
        raise ArchiveUnreadable(f"the archive has {len(infos)} members and says otherwise; it is not read")
    times = Counter(_last(info) for info in infos)
    for info in infos:
        name = _last(info)
        if _climbs(info.filename):
            findings.append(_error("zip-path", f"{info.filename!r} leads out of the archive and is not read"))
        elif not wanted.fullmatch(name):
            continue
        elif times[name] > 1:
            findings.append(
                _error("zip-twice", f"{name!r} is in the archive {times[name]} times; none of them is read")
            )
        elif (refusal := _refusal(info)) is not None:
            findings.append(refusal)
        else:
            try:
                members[name] = _content(opened, info)
            except BROKEN as error:
                findings.append(_error("zip-member", f"{name!r} cannot be unpacked: {error}"))
    return Archive(members, tuple(dict.fromkeys(findings)))


def _refusal(info: ZipInfo) -> Finding | None:
    if info.flag_bits & ENCRYPTED:
        return _error("zip-encrypted", f"{_last(info)!r} is encrypted and is not read")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return _error("zip-method", f"{_last(info)!r} is compressed in an unusual way ({info.compress_type})")
    if info.file_size > MOST_MEMBER_BYTES:
        return _error("zip-size", f"{_last(info)!r} says it unpacks to {info.file_size} bytes, of {MOST_MEMBER_BYTES}")
    return None


def _content(opened: ZipFile, info: ZipInfo) -> bytes:
    with opened.open(info) as member:
        content = member.read(MOST_MEMBER_BYTES + 1)
    if len(content) != info.file_size:
        raise BadZipFile(f"it says it has {info.file_size} bytes and has {len(content)}")
    return content


def _last(info: ZipInfo) -> str:
    return PurePosixPath(info.filename).name


def _climbs(filename: str) -> bool:
    path = PurePosixPath(filename)
    return path.is_absolute() or ".." in path.parts or "\\" in filename or ":" in filename


def _error(rule: str, text: str) -> Finding:
    return Finding(rule, Weight.ERROR, None, text)
