"""Lines and text on a picture: antialiased strokes, and labels in the typeface that Pillow carries."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = Sequence[float] | npt.NDArray[np.floating]

INK: Colour = (52, 58, 66)
FAINT: Colour = (128, 134, 142)
HAIR: Colour = (196, 198, 200)

TEXT, LINE = 26, 46
"""Usual size of the type, and the height of a line of it with the space below; pixels."""


def write(
    image: Image.Image, at: Point, text: str, colour: Colour = INK, *, size: int = TEXT, anchor: str = "la"
) -> None:
    """Write ``text`` at a point, which ``anchor`` places as Pillow does (``la``: left end, top of the line).

    Pillow's typeface has ASCII and little more: a µ is put together, other small Greek letters are spelled out,
    accents are dropped, × becomes x, and what is left becomes a question mark.
    """
    font, plain = ImageFont.load_default(size), _printable(text)
    draw = ImageDraw.Draw(image)
    left = at[0] - font.getlength(_without_mu(plain)) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
    draw.text((left, at[1]), _without_mu(plain), colour, font, "l" + anchor[1])
    for place, letter in enumerate(plain):
        if letter == "µ":
            start = left + font.getlength(_without_mu(plain[:place])), at[1]
            baseline = draw.textbbox(start, "u", font, "l" + anchor[1])[3]
            stem = start[0] + 0.109 * size  # the typeface's own stem and descender, in parts of its size
            stroke(image, (stem, baseline - 0.1 * size), (stem, baseline + 0.15 * size), 0.086 * size, colour)


def text_width(text: str, size: int = TEXT) -> int:
    """Pixels that :func:`write` needs."""
    return math.ceil(ImageFont.load_default(size).getlength(_without_mu(_printable(text))))


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture below a line of text."""
    panel = Image.new("RGB", (max(picture.width, text_width(caption)), picture.height + LINE), "white")
    write(panel, (0, 0), caption)
    panel.paste(picture, (0, LINE))
    return panel


def rgb(colour: npt.NDArray[np.uint8]) -> Colour:
    """The same colour as Pillow takes it."""
    red, green, blue = colour.tolist()
    return red, green, blue


def stroke(image: Image.Image, start: Point, end: Point, width: float, colour: Colour) -> None:
    """Draw an antialiased straight line with round ends."""
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    low = np.floor(np.minimum(first, last) - width).astype(int)
    high = np.ceil(np.maximum(first, last) + width).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    along = last - first
    share = np.clip(((x - first[0]) * along[0] + (y - first[1]) * along[1]) / (along @ along), 0, 1)
    away = np.hypot(x - first[0] - share * along[0], y - first[1] - share * along[1])
    cover = np.clip(width / 2 + 0.5 - away, 0, 1)
    image.paste(colour, (int(low[0]), int(low[1])), Image.fromarray((255 * cover).astype(np.uint8)))


def _printable(text: str) -> str:
    return "".join(_letter(letter) for letter in text.replace("μ", "µ").replace("×", "x"))


def _letter(letter: str) -> str:
    if letter.isascii() or letter == "µ":
        return letter
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    _, greek, name = unicodedata.name(letter, "").partition("GREEK SMALL LETTER ")
    return plain or (name.lower() if greek else "?")


def _without_mu(text: str) -> str:
    return text.replace("µ", "u")
