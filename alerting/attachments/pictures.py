"""A picture, decoded whole and drawn anew: upright, no larger than telephones show, with nothing but its pixels."""

import struct
import zlib
from io import BytesIO

from PIL import Image, ImageOps

from alerting.domain.attachments import JPEG, PNG, NotAttachable

FORMATS = ("JPEG", "PNG", "WEBP")
"""Pillow has decoders for fifty more, which nobody here needs and somebody could abuse."""

MOST_PIXELS = {"JPEG": 64_000_000, "PNG": 36_000_000, "WEBP": 36_000_000}
"""The largest photographs of telephones have 50 million, and JPEG can be read at a half of its size. Of the others each
takes up to twelve bytes while it is drawn; a sheet of A1 at 200 dots an inch has 31 million."""
LONGEST_SIDE = 2560
SHORTEST_SIDE = 32
"""Below, there is nothing to be seen: such pictures count who opens a page."""
NARROWEST = 20
"""Times as long as it is wide. Telegram takes no photograph beyond (Bot API, sendPhoto)."""
MOST_BYTES = 5_000_000
"""The most WhatsApp takes of a picture (channels.md 1.3)."""
QUALITY, QUALITY_OF_NOISE = 85, 60
"""The worst there can be, black and white dots at random, has 5.6 MB in the one and 3.7 MB in the other."""

UNREADABLE = (
    # What Pillow raises for files that are not what they say: by its own words, or out of the depths of a decoder.
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    EOFError,
    struct.error,
    zlib.error,
)
DAMAGED = "is damaged, or only a part of it has arrived: open it on your computer, save it anew, and send it again"
MOVING = "moves, and telephones show only its first moment: save the one picture that matters"


def redrawn(raw: bytes) -> tuple[str, bytes, int, int]:
    """Its media type, bytes, width and height. Raises NotAttachable."""
    try:
        pixels = _pixels(raw)
    except NotAttachable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAttachable(_too_many_pixels(max(MOST_PIXELS.values()))) from None
    except UNREADABLE:
        raise NotAttachable(DAMAGED) from None
    media_type, content = _written(pixels, photograph=raw.startswith(b"\xff\xd8"))
    with Image.open(BytesIO(content)) as drawn:
        return media_type, content, drawn.width, drawn.height


def _pixels(raw: bytes) -> Image.Image:
    """What is to be seen, in red, green and blue, upright and on white."""
    with Image.open(BytesIO(raw), formats=FORMATS) as found:
        # Some telephones put a second photograph behind the first: MPO is JPEG to everybody else.
        form = "JPEG" if found.format in ("JPEG", "MPO") else str(found.format)
        _check_size(*found.size, MOST_PIXELS[form])
        if form != "JPEG" and getattr(found, "n_frames", 1) > 1:
            raise NotAttachable(MOVING)
        if form == "JPEG":
            found.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # decodes no finer than it will be shown
        found.load()
        ImageOps.exif_transpose(found, in_place=True)
        seen = _in_eight_bits(found)
    seen.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    # On a new one, white as paper: what Pillow writes of one it has read may have comments and profiles of the old.
    clean = Image.new("RGB", seen.size, "white")
    clean.paste(seen, mask=seen if seen.mode == "RGBA" else None)
    return clean


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Of each colour, and of how transparent it is."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture.convert(mode) if picture.mode != mode else picture  # a copy would take as much again


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise NotAttachable(_too_many_pixels(most))
    short, long = sorted((width, height))
    if short < SHORTEST_SIDE:
        raise NotAttachable(f"has {width} × {height} pixels, in which there is nothing to see: send a larger one")
    if long > short * NARROWEST:
        raise NotAttachable(
            f"is {long // short} times as long as it is wide, and telephones would not show it: cut out what matters"
        )


def _too_many_pixels(most: int) -> str:
    return f"has more than {most // 1_000_000} million pixels: make it smaller, {LONGEST_SIDE} pixels a side are enough"


def _written(pixels: Image.Image, *, photograph: bool) -> tuple[str, bytes]:
    """As JPEG; as PNG where that is about as small, as it is of maps and drawings, whose letters stay sharp."""
    photo = _photo(pixels, QUALITY)
    # To write a photograph as a good PNG takes six seconds: a quick one tells whether it is one.
    if not photograph and len(_saved(pixels, "PNG", compress_level=1)) <= 2 * len(photo):
        drawing = _saved(pixels, "PNG", optimize=True)
        if len(drawing) <= min(len(photo), MOST_BYTES):
            return PNG, drawing
    return JPEG, photo if len(photo) <= MOST_BYTES else _photo(pixels, QUALITY_OF_NOISE)


def _photo(pixels: Image.Image, quality: int) -> bytes:
    return _saved(pixels, "JPEG", quality=quality, optimize=True, progressive=True)


def _saved(pixels: Image.Image, form: str, **how: object) -> bytes:
    written = BytesIO()
    pixels.save(written, form, **how)
    return written.getvalue()
