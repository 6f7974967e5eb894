"""What may go with an alert: files as people have them, files as nobody should open them, and what is made of them."""

import asyncio
import contextlib
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from alerting.attachments import documents, pictures
from alerting.attachments.documents import MOST_UNPACKED, STRIDE
from alerting.attachments.preparing import prepare, prepared
from alerting.domain.attachments import (
    JPEG,
    MOST_BYTES,
    PDF,
    PNG,
    Enclosure,
    NotAttachable,
    address_of,
    label_of,
    name_of,
    sha256_in,
    short_address,
)

FORNACETTE = (43.6625, 10.5931)
GPS = 0x8825
ORIENTATION = 0x0112
SHA256 = "3f9c0b12a7de" + "5e" * 26


def photograph(width: int = 640, height: int = 480) -> Image.Image:
    """The Arno, as far as a gradient and some noise can be it; its upper left corner is red."""
    dice = random.Random(width * height)
    small = Image.new("RGB", (64, 48))
    small.putdata([(dice.randrange(256), dice.randrange(256), dice.randrange(256)) for _ in range(64 * 48)])
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    ImageDraw.Draw(picture).rectangle((0, 0, width // 4, height // 4), "red")
    return picture


def plan(mode: str = "RGB") -> Image.Image:
    """Streets of Fornacette: few colours, straight lines."""
    picture = Image.new("RGB", (900, 600), "white")
    draw = ImageDraw.Draw(picture)
    for x in range(0, 900, 60):
        draw.line((x, 0, x + 90, 600), "black", 3)
    draw.rectangle((300, 200, 500, 400), "orange", "red", 5)
    return picture.convert(mode)


def saved(picture: Image.Image, form: str, **how: object) -> bytes:
    written = BytesIO()
    picture.save(written, form, **how)
    return written.getvalue()


def opened(raw: bytes) -> Image.Image:
    picture = Image.open(BytesIO(raw))
    picture.load()
    return picture


def refusal_of(raw: bytes) -> str:
    with pytest.raises(NotAttachable) as refused:
        prepare(raw)
    sentence = str(refused.value)
    assert ":" in sentence or "print it to PDF" in sentence, "it says what to do"
    return sentence


def close_to(found: object, wanted: tuple[int, int, int], by: int = 12) -> bool:
    assert isinstance(found, tuple)
    return all(abs(one - other) <= by for one, other in zip(found, wanted, strict=True))


# ── what becomes of a picture ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (saved(photograph(), "JPEG"), JPEG),
        (saved(photograph(), "PNG"), JPEG),
        (saved(photograph(), "WEBP"), JPEG),
        (saved(plan(), "PNG"), PNG),
        (saved(plan(), "WEBP", lossless=True), PNG),
        (saved(plan(), "JPEG"), JPEG),
    ],
    ids=["photograph", "photograph as PNG", "photograph as WebP", "map", "map as WebP", "map as JPEG"],
)
def test_photographs_become_jpeg_and_drawings_png(raw: bytes, media_type: str) -> None:
    file = prepare(raw)
    before, after = opened(raw), opened(file.content)
    assert file.media_type == media_type == f"image/{str(after.format).lower()}"
    assert (file.width, file.height) == after.size == before.size
    assert after.mode == "RGB"


def test_where_a_photograph_was_taken_and_by_whom_stays_at_home() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "Telefono di Anna", "Anna Rossi"
    exif.get_ifd(GPS).update({1: "N", 2: (43.0, 39.0, 45.0), 3: "E", 4: (10.0, 35.0, 35.0)})
    hidden = {"exif": exif, "comment": b"via Morandi 3", "icc_profile": b"profilo di Anna", "dpi": (301, 301)}
    raw = saved(photograph(), "JPEG", **hidden)
    assert opened(raw).getexif().get_ifd(GPS) and b"Anna Rossi" in raw and b"via Morandi 3" in raw

    content = prepare(raw).content
    after = opened(content)
    assert dict(after.getexif()) == {} and not {"exif", "comment", "icc_profile", "xmp"} & after.info.keys()
    assert not re.search(rb"Exif|Anna|Morandi|profilo", content)


def test_what_is_written_into_a_png_stays_at_home() -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", "Anna Rossi")
    told.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>via Morandi 3</x:xmpmeta>", zip=True)
    content = prepare(saved(plan(), "PNG", pnginfo=told, dpi=(301, 301))).content
    assert b"Anna" not in content
    chunks = re.findall(rb"IHDR|PLTE|tEXt|iTXt|zTXt|eXIf|iCCP|pHYs|tIME", content)
    assert set(chunks) <= {b"IHDR", b"PLTE"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright_however_the_telephone_was_held(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = prepare(saved(photograph(400, 200), "JPEG", exif=exif))
    after = opened(file.content)
    assert after.size == ((400, 200) if orientation <= 4 else (200, 400))
    corners = {
        1: (5, 5),
        2: (-5, 5),
        3: (-5, -5),
        4: (5, -5),
        5: (5, 5),
        6: (-5, 5),
        7: (-5, -5),
        8: (5, -5),
    }
    x, y = corners[orientation]
    assert close_to(after.getpixel((x % after.width, y % after.height)), (254, 0, 0), 30)


def test_a_large_photograph_is_made_as_large_as_telephones_show() -> None:
    file = prepare(saved(photograph(6000, 3000), "JPEG"))
    assert (file.width, file.height) == (2560, 1280) == opened(file.content).size
    assert len(file.content) < 2_000_000
    tall = prepare(saved(plan().resize((300, 3000)), "PNG"))
    assert (tall.width, tall.height) == (256, 2560)


def test_no_picture_is_larger_than_whatsapp_takes_not_even_noise() -> None:
    dots = random.Random(1966).randbytes(2560 * 2560 * 3).translate(bytes(128) + b"\xff" * 128)
    noise = Image.frombytes("RGB", (2560, 2560), dots)
    file = prepare(saved(noise, "JPEG", quality=90))
    assert file.media_type == JPEG and len(file.content) <= pictures.MOST_BYTES
    assert (file.width, file.height) == (2560, 2560)


def test_what_is_transparent_is_white_in_whatever_way_it_is_so() -> None:
    clear = Image.new("RGBA", (200, 100), (255, 0, 0, 0))
    ImageDraw.Draw(clear).rectangle((0, 0, 99, 99), (0, 0, 255, 255))
    palette = clear.convert("P")
    palette.putpalette([0, 0, 255, 255, 0, 0] + [0] * 762)
    palette.putdata([0 if x < 100 else 1 for _ in range(100) for x in range(200)])
    grey = Image.new("LA", (200, 100), (0, 0))
    ImageDraw.Draw(grey).rectangle((0, 0, 99, 99), (29, 255))
    for raw in (
        saved(clear, "PNG"),
        saved(clear, "WEBP", lossless=True),
        saved(palette, "PNG", transparency=1),
        saved(palette, "PNG", transparency=bytes([255, 0])),
        saved(grey, "PNG"),
    ):
        after = opened(prepare(raw).content).convert("RGB")
        assert after.getpixel((150, 50)) == (255, 255, 255)
        assert after.getpixel((50, 50)) != (255, 255, 255)


def test_pictures_of_printers_and_scanners_are_seen_as_they_are() -> None:
    cmyk = Image.new("CMYK", (100, 100), (0, 255, 255, 0))
    assert close_to(opened(prepare(saved(cmyk, "JPEG")).content).getpixel((50, 50)), (254, 0, 0), 20)
    deep = Image.new("I;16", (100, 100), 0x8000)
    assert close_to(opened(prepare(saved(deep, "PNG")).content).convert("RGB").getpixel((50, 50)), (128, 128, 128), 2)
    for mode in ("1", "L", "P"):
        before, after = plan(mode), opened(prepare(saved(plan(mode), "PNG")).content)
        assert after.convert("RGB").tobytes() == before.convert("RGB").tobytes()


def test_a_photograph_with_a_second_one_behind_it_is_the_first() -> None:
    raw = saved(photograph(), "MPO", save_all=True, append_images=[plan()])
    assert opened(raw).format == "MPO"
    file = prepare(raw)
    assert (file.width, file.height) == (640, 480) and opened(file.content).format == "JPEG"


def test_bytes_behind_a_picture_are_left_behind() -> None:
    """As many telephones put there: a second of film, an overlay, a thumbnail."""
    film = b"\x00\x00\x00\x18ftypmp42" + b"Fornacette" * 1000
    for raw in (saved(photograph(), "JPEG"), saved(plan(), "PNG")):
        file = prepare(raw + film)
        assert file == prepare(raw) and b"Fornacette" not in file.content


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_same_file_gives_the_same_name(form: str) -> None:
    raw = saved(photograph(), form)
    first, second = prepare(raw), prepare(bytes(raw))
    assert first.sha256 == second.sha256 and len(first.sha256) == 64
    assert prepare(saved(photograph(641, 480), form)).sha256 != first.sha256


async def test_drawing_anew_does_not_hold_up_whoever_else_is_served() -> None:
    raw, turns, busy = saved(photograph(4000, 3000), "PNG", compress_level=1), 0, asyncio.create_task(prepared(b""))
    with pytest.raises(NotAttachable):
        await busy
    drawing = asyncio.create_task(prepared(raw))
    while not drawing.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 20, "the event loop went on meanwhile"


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────


def zipped() -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("evacuare.exe", "Fornacette")
    return written.getvalue()


def apng() -> bytes:
    return saved(plan(), "PNG", save_all=True, append_images=[photograph(900, 600)])


def claims(width: int, height: int) -> bytes:
    """A PNG of some bytes that says how large it is."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def measured(width: int, height: int) -> bytes:
    """A JPEG that says it has another size."""
    raw = saved(photograph(), "JPEG")
    return raw.replace(struct.pack(">HH", 480, 640), struct.pack(">HH", height, width), 1)


REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("nothing", lambda: b"", "is empty"),
    ("too much", lambda: bytes(MOST_BYTES + 1), "16,777,216"),
    ("PE called .jpg", lambda: b"MZ\x90\x00" + bytes(200) + b"PE\x00\x00", "is a program"),
    ("ELF called .jpg", lambda: b"\x7fELF\x02\x01\x01" + bytes(200), "is a program"),
    ("Mach-O", lambda: b"\xcf\xfa\xed\xfe" + bytes(200), "is a program"),
    ("script", lambda: b"#!/bin/sh\nrm -rf /\n", "is a program"),
    ("docx", zipped, "office program"),
    ("doc", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "office program"),
    ("SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG"),
    ("SVG after a mark and a blank", lambda: b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>", "SVG"),
    ("HTML", lambda: b"<!DOCTYPE html><html></html>", "HTML"),
    ("GIF", lambda: saved(plan("P"), "GIF"), "GIF"),
    ("BMP", lambda: saved(plan(), "BMP"), "bitmap"),
    ("TIFF", lambda: saved(plan(), "TIFF"), "TIFF"),
    ("HEIC", lambda: b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100), "Most Compatible"),
    ("AVIF", lambda: saved(photograph(), "AVIF"), "AVIF"),
    ("film", lambda: b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00" + bytes(100), "is a film"),
    ("words", lambda: b"Evacuare Fornacette.", "neither"),
    ("animated PNG", apng, "moves"),
    (
        "animated WebP",
        lambda: saved(plan(), "WEBP", save_all=True, append_images=[photograph(900, 600)], duration=100),
        "moves",
    ),
    ("JPEG and ZIP", lambda: saved(photograph(), "JPEG") + zipped(), "something else hidden"),
    ("PNG and ZIP", lambda: saved(plan(), "PNG") + zipped(), "something else hidden"),
    ("JPEG and PHP", lambda: saved(photograph(), "JPEG", comment=b"<?php system($_GET[0]);"), "something else hidden"),
    ("JPEG and PDF", lambda: saved(photograph(), "JPEG", comment=b"%PDF-1.4"), "something else hidden"),
    ("JPEG and a page", lambda: saved(photograph(), "JPEG", comment=b"<script>alert(1)"), "something else hidden"),
    ("half a JPEG", lambda: (raw := saved(photograph(), "JPEG"))[: len(raw) // 2], "damaged"),
    ("half a PNG", lambda: (raw := saved(photograph(), "PNG"))[: len(raw) // 2], "damaged"),
    ("half a WebP", lambda: (raw := saved(photograph(), "WEBP"))[: len(raw) // 2], "damaged"),
    ("only the beginning", lambda: b"\xff\xd8\xff\xe0", "damaged"),
    ("a PNG with another sum", lambda: saved(plan(), "PNG").replace(b"IDAT", b"IDAX"), "damaged"),
    ("too few rows", lambda: claims(1000, 1000), "damaged"),
    ("37 million pixels", lambda: claims(6_000, 6_167), "36 million"),
    ("65 million pixels", lambda: measured(8_000, 8_125), "64 million"),
    ("100 million pixels", lambda: claims(10_000, 10_000), "million pixels"),
    ("400 million pixels", lambda: claims(20_000, 20_000), "64 million"),
    ("a billion pixels", lambda: claims(2**31 - 1, 2**31 - 1), "64 million"),
    ("one pixel", lambda: saved(Image.new("RGB", (1, 1)), "PNG"), "nothing to see"),
    ("a stripe", lambda: saved(Image.new("RGB", (2000, 40)), "PNG"), "50 times as long"),
]


@pytest.mark.parametrize(("raw", "says"), [(raw, says) for _, raw, says in REFUSED], ids=[name for name, *_ in REFUSED])
def test_what_may_not_go_with_an_alert_is_refused_by_what_it_is(raw: Callable[[], bytes], says: str) -> None:
    assert says in refusal_of(raw())


MAGIC = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x10\x00\x00WEBP", b"%PDF-1.7\n", b"GIF89a", b"PK"]
GOOD = [saved(plan().resize((64, 64)), form) for form in ("JPEG", "PNG", "WEBP")]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MAGIC), st.binary(max_size=2000))
def test_no_bytes_whatever_do_more_than_be_refused(beginning: bytes, rest: bytes) -> None:
    with pytest.raises(NotAttachable):
        prepare(beginning + rest)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_spoilt_picture_is_refused_or_still_a_picture(good: bytes, spoilt: list[tuple[int, int]]) -> None:
    raw = bytearray(good)
    for position, byte in spoilt:
        raw[position % len(raw)] = byte
    try:
        file = prepare(bytes(raw))
    except NotAttachable:
        return
    assert opened(file.content).size == (file.width, file.height)


# ── PDF ─────────────────────────────────────────────────────────────────────────────────────────────


def document(*objects: bytes, end: bytes = b"") -> bytes:
    """A PDF of a page with these objects in it."""
    page = (
        b"<</Type /Catalog /Pages 2 0 R>>",
        b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        b"<</Type /Page /Parent 2 0 R>>",
    )
    raw, offsets = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for number, one in enumerate((*page, *objects), 1):
        offsets.append(len(raw))
        raw += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    begins = len(raw)
    raw += b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<</Size %d /Root 1 0 R%b>>\n" % (
        len(offsets) + 1,
        table,
        len(offsets) + 1,
        end,
    )
    return raw + b"startxref\n%d\n%%%%EOF\n" % begins


def packed(inside: bytes, dictionary: bytes = b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode") -> bytes:
    data = zlib.compress(inside)
    return b"<<%b /Length %d>>\nstream\n%b\nendstream" % (dictionary, len(data), data)


def test_a_pdf_is_kept_byte_for_byte() -> None:
    for raw in (
        document(),
        document(packed(b"4 0 <</Type /Page>>")),
        document(packed(b"BT (Evacuare) Tj ET", b"/Filter [/FlateDecode]")),
        document(end=b" /Info <</Title (Come si usa JavaScript)>>"),
        document() + b"\r\n\x00\x00",
        saved(photograph(), "PDF"),
    ):
        file = prepare(raw)
        assert (file.media_type, file.content, file.width, file.height) == (PDF, raw, None, None)


ACTION = b"<</S /JavaScript /JS (app.launchURL\\('http://example.com'\\))>>"
REFUSED_PDFS: list[tuple[str, Callable[[], bytes], str]] = [
    ("JavaScript", lambda: document(ACTION), "JavaScript"),
    ("JavaScript by numbers", lambda: document(ACTION.replace(b"/JavaScript", b"/J#61v#61Script")), "JavaScript"),
    ("JavaScript all by numbers", lambda: document(b"/" + b"".join(b"#%02X" % c for c in b"JavaScript")), "JavaScript"),
    ("JavaScript packed", lambda: document(packed(b"4 0 " + ACTION)), "JavaScript"),
    ("JavaScript packed, of an unsaid type", lambda: document(packed(ACTION, b"/Filter /FlateDecode")), "JavaScript"),
    (
        "JavaScript far behind in what is packed",
        lambda: document(packed(random.Random(4).randbytes(3_000_000) + ACTION)),
        "JavaScript",
    ),
    (
        "JavaScript where two pieces meet",
        lambda: document(packed(bytes(1_000_000 - 8) + ACTION)),
        "JavaScript",
    ),
    ("launch", lambda: document(b"<</S /Launch /F (evacuare.exe)>>"), "starts a program"),
    ("embedded file", lambda: document(b"<</Type /EmbeddedFile /Length 2>>\nstream\nMZ\nendstream"), "other files"),
    ("encrypted", lambda: document(b"<</Filter /Standard>>", end=b" /Encrypt 4 0 R"), "password"),
    ("film", lambda: document(b"<</Subtype /RichMedia>>"), "films"),
    ("a form that sends", lambda: document(b"<</S/SubmitForm/F(http://example.com)>>"), "sends"),
    (
        "packed twice",
        lambda: document(packed(b"4 0 x", b"/Type /ObjStm /Filter [/ASCIIHexDecode /FlateDecode]")),
        "packed",
    ),
    ("packed otherwise", lambda: document(packed(b"4 0 x", b"/Type/ObjStm/Filter/LZWDecode")), "packed"),
    (
        "packed, and masked",
        lambda: document(packed(b"4", b"/Type /ObjStm /Filter /FlateDecode /DecodeParms <<>>")),
        "packed",
    ),
    ("packed by numbers", lambda: document(packed(b"4", b"/Type /Obj#53tm /F#69lter /ASCIIHexDecode")), "packed"),
    ("half", lambda: document(packed(bytes(500)))[:300], "damaged"),
    ("without its table", lambda: document().replace(b"startxref\n", b"startxref\n9"), "damaged"),
    ("with an archive behind", lambda: document() + zipped(), "damaged"),
    ("with something before", lambda: b"\n\n" + document(), "something before"),
    ("a header only", lambda: b"%PDF-1.7\n", "damaged"),
    ("a bomb", lambda: document(packed(bytes(MOST_UNPACKED + 1), b"/Filter /FlateDecode")), "far larger"),
]


@pytest.mark.parametrize(
    ("raw", "says"), [(raw, says) for _, raw, says in REFUSED_PDFS], ids=[name for name, *_ in REFUSED_PDFS]
)
def test_a_pdf_that_acts_or_hides_something_is_refused(raw: Callable[[], bytes], says: str) -> None:
    assert says in refusal_of(raw())


def test_where_one_search_ends_a_name_is_found_and_a_longer_word_is_none() -> None:
    before = document(b"").index(b"4 0 obj\n") + len(b"4 0 obj\n")
    for short_by in range(-4, 40):
        padding = b" " * (STRIDE - before - short_by)
        assert "starts a program" in refusal_of(document(padding + b"/Launch "))
        assert "starts a program" in refusal_of(document(padding + b"/#4c#61#75#6e#63#68 "))
        raw = document(padding + b"/Launcher ")
        assert prepare(raw).content == raw


async def test_a_pdf_that_is_long_to_look_into_holds_up_nobody() -> None:
    raw, turns = document(b"/J" * 2_000_000), 0
    looking = asyncio.create_task(prepared(raw))
    while not looking.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 10, "the event loop went on meanwhile"


def test_a_dictionary_with_a_thousand_names_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, around = [], documents._dictionary_around

    def counted(raw: bytes, at: int) -> tuple[int, int]:
        looked.append(at)
        return around(raw, at)

    monkeypatch.setattr(documents, "_dictionary_around", counted)
    raw = document(packed(b"4 0 x", b"/Type " + b"/ObjStm " * 1000 + b"/Filter /FlateDecode"))
    assert prepare(raw).content == raw and len(looked) == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=30))
def test_a_pdf_with_anything_in_it_is_refused_or_kept_as_it_is(inside: bytes, position: int, spoilt: bytes) -> None:
    raw = document(packed(inside), inside)
    raw = raw[:position] + spoilt + raw[position:]
    with contextlib.suppress(NotAttachable):
        assert prepare(raw).content == raw


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_of_ours_is_known_again_and_said_in_few_letters() -> None:
    url = address_of("https://allerta.calcinaia.example/", SHA256)
    assert url == f"https://allerta.calcinaia.example/v1/attachments/{SHA256}"
    assert sha256_in(url) == SHA256
    assert short_address(url) == "https://allerta.calcinaia.example/a/3f9c0b12a7de"
    for others in ("https://example.com/mappa.png", f"{url}/", url[:-1], f"ftp://x/v1/attachments/{SHA256}"):
        assert sha256_in(others) is None and short_address(others) == others


@pytest.mark.parametrize(
    ("says", "media_type", "label"),
    [
        ("Mappa delle vie da evacuare", PNG, "Mappa"),
        ("cartina dell'area di attesa", JPEG, "Mappa"),
        ("L'Arno al ponte di Fornacette", JPEG, "Immagine"),
        ("Mappa delle vie", PDF, "Documento"),
    ],
)
def test_a_link_says_what_people_will_see(says: str, media_type: str, label: str) -> None:
    assert label_of(media_type, says) == label


def test_a_file_is_called_by_what_it_is_and_not_by_what_somebody_called_it() -> None:
    assert name_of(SHA256, JPEG) == "allerta-3f9c0b12a7de.jpg"
    assert name_of(SHA256, PDF) == "allerta-3f9c0b12a7de.pdf"


def test_a_document_that_nobody_describes_has_a_name_in_cap() -> None:
    assert Enclosure("https://x", PDF, 100, " ").resource.resource_desc == "Documento allegato"
