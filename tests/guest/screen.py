# SPDX-License-Identifier: GPL-2.0-or-later
"""What the screen of a guest shows, read as text and compared as a picture.

The font is the one that the VGA BIOS loads, taken from its file, so that a text
screen can be drawn here, pixel by pixel, and read back from a picture.  Pictures
are rfb.Rfb's: 4 bytes a pixel, blue, green, red, nothing."""
import os
import time

import rfb
from guest import SLOW, Failed, Skip

VGABIOS = "/usr/share/seabios/vgabios-stdvga.bin"
# Glyphs of the IBM font by which the table of 256 times 16 bytes is found: "!" and "A".
BANG, BIG_A = bytes.fromhex("0000183c3c3c18181800181800000000"), bytes.fromhex("000010386cc6c6fec6c6c6c600000000")
LEVEL = (0, 0xaa)


def font():
    if not os.path.exists(VGABIOS):
        raise Skip(f"{VGABIOS} is not installed")
    with open(VGABIOS, "rb") as f:
        data = f.read()
    at = data.find(BANG) - 16 * ord("!")
    while at > -16 * ord("!") and data[at + 16 * ord("A"):at + 16 * ord("B")] != BIG_A:
        at = data.find(BANG, at + 16 * ord("!") + 1) - 16 * ord("!")
    if at < 0:
        raise Skip(f"{VGABIOS} has no font that is known here")
    return [data[at + 16 * c:at + 16 * c + 16] for c in range(256)]


def colour(n):
    """One of the 16, as IBM's adapters have them: blue, green, red, nothing."""
    if n == 6:
        return bytes((0, 0x55, 0xaa, 0))
    more = 0x55 if n & 8 else 0
    return bytes((LEVEL[n & 1] + more, LEVEL[n >> 1 & 1] + more, LEVEL[n >> 2 & 1] + more, 0))


def draw(cells, glyphs, columns=80):
    """The picture of a text screen: cells are (character, attribute), without blinking, in cells of 9 by 16."""
    out = bytearray()
    for top in range(0, len(cells), columns):
        for y in range(16):
            for c, attr in cells[top:top + columns]:
                bits = glyphs[c][y] << 1
                if 0xc0 <= c <= 0xdf:
                    bits |= bits >> 1 & 1
                fg, bg = colour(attr & 15), colour(attr >> 4)
                out += b"".join(fg if bits >> (8 - x) & 1 else bg for x in range(9))
    return bytes(out)


def plain(picture):
    """Without what the fourth byte of a pixel happens to be."""
    out = bytearray(picture)
    out[3::4] = bytes(len(out) // 4)
    return bytes(out)


class Screen:
    """A viewer that reads."""

    def __init__(self, path=None, port=None):
        self.glyphs = font()
        self.known = {g: chr(c) for c, g in reversed(list(enumerate(self.glyphs))) if 32 <= c < 127}
        deadline = time.monotonic() + 20 * SLOW
        while path and not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.view = rfb.Rfb(path=path, port=port)
        self.view.set_encodings(rfb.ZRLE, rfb.EXT_SIZE)

    def close(self):
        self.view.close()

    def picture(self):
        return plain(self.view.refresh())

    def cell(self, data, x, y, width):
        """The character there: a dot is set where it differs from the cell's own background, the corner of its 9th column."""
        stride = self.view.width * 4
        rows = [data[(y + j) * stride + x * 4:(y + j) * stride + (x + width) * 4] for j in range(16)]
        back = rows[0][-4:]
        if all(r == back * width for r in rows):
            return " "
        glyph = bytes(sum((r[4 * i:4 * i + 4] != back) << (7 - i) for i in range(8)) for r in rows)
        return self.known.get(glyph, "\0")

    def text(self, width=9):
        """Lines; what is no character is a NUL."""
        data = self.picture()
        return "\n".join("".join(self.cell(data, x, y, width) for x in range(0, self.view.width - width + 1, width)).rstrip()
                         for y in range(0, self.view.height - 15, 16))

    def expect(self, words, seconds=60, width=9):
        deadline = time.monotonic() + seconds * SLOW
        while True:
            text = self.text(width)
            if words in text:
                return text
            if time.monotonic() > deadline:
                raise Failed(f"'{words}' did not appear on the screen within {seconds * SLOW:.0f} s; it shows:\n{text}")
            time.sleep(0.1)
