"""Makes a PNG of Chromium smaller: at most 256 colours, which text on a plain page does not miss. shrink.py FROM TO"""

import struct
import sys
import zlib
from collections import Counter


def chunks(data):
    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + size]
        at += size + 12


def paeth(left, above, corner):
    guess = left + above - corner
    return min((abs(guess - left), 0, left), (abs(guess - above), 1, above), (abs(guess - corner), 2, corner))[2]


def rows(packed, width, height, depth):
    """Lines of pixels without their filters (PNG, section 9)."""
    raw, size, above = zlib.decompress(packed), width * depth, bytearray(width * depth)
    for number in range(height):
        start = number * (size + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + size])
        if kind:
            for at in range(size):
                left = line[at - depth] if at >= depth else 0
                corner = above[at - depth] if at >= depth else 0
                add = (0, left, above[at], (left + above[at]) // 2, kind == 4 and paeth(left, above[at], corner))[kind]
                line[at] = (line[at] + add) & 255
        yield line
        above = line


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


parts = list(chunks(open(sys.argv[1], "rb").read()))
width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", parts[0][1])
assert (bits, interlace) == (8, 0) and colour in (2, 6), "not what Chromium writes"
depth = 3 if colour == 2 else 4
packed = b"".join(data for kind, data in parts if kind == b"IDAT")
pixels = [
    [tuple(line[at : at + 3]) for at in range(0, len(line), depth)] for line in rows(packed, width, height, depth)
]
common = [colour for colour, _ in Counter(pixel for line in pixels for pixel in line).most_common(256)]
places = {colour: place for place, colour in enumerate(common)}


def place_of(pixel):
    if pixel not in places:
        near = min(common, key=lambda other: sum((one - two) ** 2 for one, two in zip(pixel, other)))
        places[pixel] = places[near]
    return places[pixel]


body = b"".join(b"\0" + bytes(place_of(pixel) for pixel in line) for line in pixels)
with open(sys.argv[2], "wb") as out:
    out.write(b"\x89PNG\r\n\x1a\n")
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)))
    out.write(chunk(b"PLTE", b"".join(bytes(colour) for colour in common)))
    out.write(chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b""))
