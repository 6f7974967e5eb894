"""A PDF, looked into without being opened: whole, in the clear, and with nothing in it that acts by itself.

Readers find objects by offsets that may point anywhere, and names may be spelt in hexadecimal. So it is no parser:
what acts is looked for by name in every byte, as they are and as they are once unpacked, whatever they are part of.
"""

import re
import zlib
from collections.abc import Iterator

from alerting.domain.attachments import NotAttachable

WHITE = rb"\x00\t\n\x0c\r "
ENDS = re.compile(rb"startxref[%s]+(\d{1,10})[%s]+%%%%EOF[%s]*\Z" % (WHITE, WHITE, WHITE))
LONGEST_END = 2048
AT_THE_OFFSET = re.compile(rb"[%s]*(?:xref[%s]|\d{1,10}[%s]+\d{1,5}[%s]+obj)" % (WHITE, WHITE, WHITE, WHITE))

FLAWED = "is damaged, or only a part of it has arrived: open it on your computer, print it to PDF, and send that"
AGAIN = "open it on your computer, print it to PDF, and send that"

# ISO 32000-2: 7.6 encryption, 12.6.4 actions, 7.11.4 embedded files, 12.7.8 XFA, 13 media. All are spelt out in
# whatever uses them; JavaScript's short key /JS never stands without them.
ACTING = {
    b"Encrypt": f"is encrypted, and people could not open it: take the password away, or {AGAIN}",
    b"JavaScript": f"has a program in it (JavaScript): {AGAIN}",
    b"Launch": f"starts a program when it is opened: {AGAIN}",
    b"EmbeddedFile": f"has other files in it: {AGAIN}",
    b"EmbeddedFiles": f"has other files in it: {AGAIN}",
    b"GoToE": f"has other files in it: {AGAIN}",
    b"RichMedia": f"has films or sounds in it: {AGAIN}",
    b"XFA": f"is a form that only some programs show: {AGAIN}",
    b"SubmitForm": f"is a form that sends what people write: {AGAIN}",
    b"ImportData": f"is a form that reads files of people: {AGAIN}",
}
HIDDEN = f"is packed in a way that cannot be looked into: {AGAIN}"
TOO_MUCH = f"is far larger once unpacked: {AGAIN} with pictures of lower resolution"


def _spelt(name: bytes) -> bytes:
    """A pattern for a name, each letter as it is or by its number."""
    return b"".join(b"(?:%b|#(?i:%02x))" % (re.escape(bytes([letter])), letter) for letter in name)


FIRST_LETTERS = bytes(sorted({name[0] for name in ACTING}))
ACTS = re.compile(
    rb"/(?=[#%b])(?:%b)(?=[%s()<>\[\]{}/%%]|\Z)"
    % (FIRST_LETTERS, b"|".join(b"(?P<%b>%b)" % (name, _spelt(name)) for name in ACTING), WHITE)
)
OBJECTS = re.compile(rb"/%b(?=[%s()<>\[\]{}/%%]|\Z)" % (_spelt(b"ObjStm"), WHITE))
OTHERWISE_PACKED = re.compile(
    rb"/%b[%s]*+(?!/FlateDecode[%s/>]|\[[%s]*/FlateDecode[%s]*\])|/%b[^A-Za-z]"
    % (_spelt(b"Filter"), WHITE, WHITE, WHITE, WHITE, _spelt(b"DecodeParms"))
)
STREAM = re.compile(rb"(?<!end)stream[ \t]*(?:\r\n|\n|\r)")

LONGEST_NAME = 3 * max(map(len, ACTING)) + 2
STRIDE = 16_384
"""Bytes that are searched in one go: until a search ends, nothing else of this process goes on."""
MOST_STREAMS = 50_000
MOST_UNPACKED = 400_000_000
"""Bytes. A whole sheet scanned in colour has a hundred million."""
AT_ONCE = 1_000_000
LONGEST_DICTIONARY = 10_000


def check_document(raw: bytes) -> None:
    """Raises NotAttachable where it is damaged, or has what nobody should open."""
    end = ENDS.search(raw, max(0, len(raw) - LONGEST_END))
    if end is None or AT_THE_OFFSET.match(raw, int(end[1])) is None:
        raise NotAttachable(FLAWED)
    _check_names(raw)
    looked_at = 0
    for part in _each(OBJECTS, raw):
        if part.start() < looked_at:
            continue
        begins, looked_at = _dictionary_around(raw, part.start())
        if OTHERWISE_PACKED.search(raw, begins, looked_at):
            raise NotAttachable(HIDDEN)
    for unpacked in _unpacked(raw):
        _check_names(unpacked)


def _check_names(some: bytes) -> None:
    if found := next(_each(ACTS, some), None):
        assert found.lastgroup is not None
        raise NotAttachable(ACTING[found.lastgroup.encode()])


def _each(names: re.Pattern[bytes], some: bytes) -> Iterator[re.Match[bytes]]:
    """Where names stand, stride by stride. What begins in one is looked at beyond its end, as far as a name goes."""
    for begins in range(0, len(some), STRIDE):
        for found in names.finditer(some, begins, begins + STRIDE + LONGEST_NAME):
            if found.start() < begins + STRIDE:
                yield found


def _dictionary_around(raw: bytes, position: int) -> tuple[int, int]:
    """From the object's beginning to its stream, as far as can be told."""
    begins = raw.rfind(b"obj", max(0, position - LONGEST_DICTIONARY), position)
    ends = STREAM.search(raw, position, position + LONGEST_DICTIONARY)
    if begins < 0 or ends is None:
        raise NotAttachable(HIDDEN)
    return begins, ends.start()


def _streams(raw: bytes) -> Iterator[int]:
    """Where what streams hold begins. A pattern alone would take a hundred times as long to find the word."""
    at = raw.find(b"stream")
    while at >= 0:
        if found := STREAM.match(raw, at):
            yield found.end()
        at = raw.find(b"stream", at + 1)


def _unpacked(raw: bytes) -> Iterator[bytes]:
    """What every stream holds, in pieces that overlap by a name."""
    left, view = MOST_UNPACKED, memoryview(raw)
    for number, begins in enumerate(_streams(raw)):
        if number >= MOST_STREAMS:
            raise NotAttachable(TOO_MUCH)
        before = b""
        for piece in _inflated(view[begins:]):
            left -= len(piece)
            if left < 0:
                raise NotAttachable(TOO_MUCH)
            yield before + piece
            before = piece[-LONGEST_NAME:]


def _inflated(packed: memoryview) -> Iterator[bytes]:
    """As far as it can be: what is packed otherwise, as photographs are, yields nothing."""
    inflating = zlib.decompressobj()
    position = 0
    try:
        while not inflating.eof and position < len(packed):
            fed = packed[position : position + AT_ONCE // 16]
            position += len(fed)
            piece = inflating.decompress(fed, AT_ONCE)
            while piece:
                yield piece
                piece = inflating.decompress(inflating.unconsumed_tail, AT_ONCE) if not inflating.eof else b""
    except zlib.error:
        return
