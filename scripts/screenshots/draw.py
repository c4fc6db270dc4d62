"""A screen of `tmux capture-pane -e` on standard input becomes an SVG on standard output; the argument is its width."""

import re
import sys
from html import escape

COLUMNS = int(sys.argv[1])
WIDTH, HEIGHT, MARGIN = 7.25, 17, 12
BACK, FRONT, DIM = "#0d1117", "#d8dee6", "#8b949e"
BASE = ["#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#c9d1d9"]
BRIGHT = ["#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff"]


def of_256(number):
    if number < 16:
        return (BASE + BRIGHT)[number]
    if number < 232:
        steps = [0, 95, 135, 175, 215, 255]
        cube = number - 16
        return "#%02x%02x%02x" % tuple(steps[part] for part in (cube // 36, cube // 6 % 6, cube % 6))
    return "#%02x%02x%02x" % ((8 + 10 * (number - 232),) * 3)


def plain():
    return {"front": None, "back": None, "bold": False, "dim": False, "reverse": False}


def apply(style, codes):
    codes = [int(code or 0) for code in codes]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.update(plain())
        elif code in (1, 2, 7):
            style[{1: "bold", 2: "dim", 7: "reverse"}[code]] = True
        elif code == 22:
            style.update(bold=False, dim=False)
        elif code == 27:
            style["reverse"] = False
        elif code in (38, 48):
            kind, place = codes.pop(0), "front" if code == 38 else "back"
            if kind == 5:
                style[place] = of_256(codes.pop(0))
            else:
                style[place] = "#%02x%02x%02x" % tuple(codes.pop(0) for _ in range(3))
        elif code in (39, 49):
            style["front" if code == 39 else "back"] = None
        elif 30 <= code <= 37 or 40 <= code <= 47:
            style["front" if code < 40 else "back"] = BASE[code % 10]
        elif 90 <= code <= 97 or 100 <= code <= 107:
            style["front" if code < 100 else "back"] = BRIGHT[code % 10]


def runs(line, style):
    """Pieces of a line that look the same: where each begins, its text, its colours."""
    at = 0
    for piece in re.split(r"(\x1b\[[0-9;:]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;:]*)m", piece)
        if code:
            apply(style, re.split("[;:]", code[1]))
        elif piece:
            yield at, piece, dict(style)
            at += len(piece)


def draw(at, row, text, style):
    front = style["front"] or (DIM if style["dim"] else FRONT)
    back = style["back"]
    if style["reverse"]:
        front, back = back or BACK, front
    x, y, width = MARGIN + at * WIDTH, MARGIN + row * HEIGHT, len(text) * WIDTH
    if back:
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" fill="{back}"/>'
    if not text.strip():
        return
    # SVG folds spaces that can break.
    start, bare = x + (len(text) - len(text.lstrip())) * WIDTH, text.strip().replace(" ", "\u00a0")
    weight = ' font-weight="bold"' if style["bold"] else ""
    yield (
        f'<text x="{start:.1f}" y="{y + 13}" textLength="{len(bare) * WIDTH:.1f}" fill="{front}"{weight}>'
        f"{escape(bare)}</text>"
    )


lines = sys.stdin.read().rstrip("\n").split("\n")
size = f'width="{COLUMNS * WIDTH + 2 * MARGIN:.0f}" height="{len(lines) * HEIGHT + 2 * MARGIN}"'
print(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="12"')
print('  font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">')
print(f'<rect width="100%" height="100%" rx="6" fill="{BACK}"/>')
current = plain()
for number, content in enumerate(lines):
    for begin, words, look in runs(content, current):
        for element in draw(begin, number, words, look):
            print(element)
print("</svg>")
