"""What somebody hands in becomes what everybody may be sent, or is refused with what to do instead.

Its type is what its bytes are: neither its name nor what the sender says of it is believed. A picture is decoded
whole and drawn anew, so that nothing of the file itself goes on: no metadata, no thumbnail, nothing hidden behind.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from alerting.attachments.documents import check_document
from alerting.attachments.pictures import redrawn
from alerting.domain.attachments import MOST_BYTES, PDF, NotAttachable, Prepared

ONE_AT_A_TIME = ThreadPoolExecutor(1, thread_name_prefix="attachments")
"""A large picture takes a second of a core and up to 500 MB while it is drawn: whoever comes meanwhile waits."""

SAVE_AS = "save it as JPEG, PNG or PDF"
A_PROGRAM = "is a program, not a picture: do not open it, and tell whoever looks after your computers"
FROM_OFFICE = "is an archive or a document of an office program: print it to PDF, or take a picture of the page"

# What a file begins with, and what to say to whoever hands it in. The first that fits.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"MZ", A_PROGRAM),
    (b"\x7fELF", A_PROGRAM),
    (b"\xca\xfe\xba\xbe", A_PROGRAM),
    (b"\xfe\xed\xfa\xce", A_PROGRAM),
    (b"\xfe\xed\xfa\xcf", A_PROGRAM),
    (b"\xce\xfa\xed\xfe", A_PROGRAM),
    (b"\xcf\xfa\xed\xfe", A_PROGRAM),
    (b"#!", A_PROGRAM),
    (b"PK", FROM_OFFICE),
    (b"\xd0\xcf\x11\xe0", FROM_OFFICE),
    (b"{\\rtf", FROM_OFFICE),
    (b"GIF8", f"is a GIF, which some telephones play and others do not show: {SAVE_AS}"),
    (b"BM", f"is a bitmap: {SAVE_AS}"),
    (b"II*\x00", f"is a TIFF, which no telephone shows: {SAVE_AS}"),
    (b"MM\x00*", f"is a TIFF, which no telephone shows: {SAVE_AS}"),
)
HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
FROM_AN_IPHONE = (
    "is a HEIC or AVIF photograph, which few telephones show: share it as JPEG, or on an iPhone choose "
    "Settings, Camera, Formats, Most Compatible, and take it again"
)
MARKUP = (
    "is a page or a drawing of a browser (HTML, SVG, XML), which may run programs: open it, and save what you see "
    "as PNG or PDF"
)

# What a picture never has in it, and a file that is two things at once does.
INSIDE: tuple[bytes, ...] = (
    b"PK\x05\x06",  # the end of a ZIP, which is read from its end
    b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c",
    b"%PDF-",
    b"<?php",
    b"__HALT_COMPILER();",
    b"This program cannot be run in DOS mode",
    b"<script",
)
TWO_THINGS = "is a picture with something else hidden in it: take a screenshot of it, and send that"


async def prepared(raw: bytes) -> Prepared:
    """What is sent of a file. Not on the event loop, and one at a time. Raises NotAttachable."""
    return await asyncio.get_running_loop().run_in_executor(ONE_AT_A_TIME, prepare, raw)


def prepare(raw: bytes) -> Prepared:
    """The same file gives the same bytes. Raises NotAttachable."""
    if not raw:
        raise NotAttachable("is empty: send the file itself")
    if len(raw) > MOST_BYTES:
        raise NotAttachable(f"has {len(raw):,} bytes, and {MOST_BYTES:,} is the most: make it smaller")
    if raw.startswith(b"%PDF-"):
        check_document(raw)
        return Prepared(PDF, raw)
    if _is_picture(raw):
        if any(sign in raw for sign in INSIDE):
            raise NotAttachable(TWO_THINGS)
        return Prepared(*redrawn(raw))
    raise NotAttachable(_instead(raw))


def _is_picture(raw: bytes) -> bool:
    return raw.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (raw[:4] == b"RIFF" and raw[8:12] == b"WEBP")


def _instead(raw: bytes) -> str:
    for beginning, sentence in BEGINNINGS:
        if raw.startswith(beginning):
            return sentence
    if raw[4:8] == b"ftyp":
        return FROM_AN_IPHONE if raw[8:12] in HEIF else "is a film: send a picture, or the address of the film as web"
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n\x00")[:1] == b"<":
        return MARKUP
    if b"%PDF-" in raw[:1024]:
        return "is a PDF with something before it: open it, and print it to PDF"
    return f"is neither a picture (JPEG, PNG, WebP) nor a PDF: {SAVE_AS}"
