"""
Charts as SVG: text is text, and colours follow the reader's light or dark page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from attrs import frozen

_WIDTH = 720
_LEFT = 130  # for names
_RIGHT = 120  # for figures
_TOP = 64
_BAR = 15
_GAP = 12
_LETTER = 7  # about the width of one
_TICKS = 5
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px } .quiet, .axis { fill: #59636e } .axis { font-size: 11px }
.grid { stroke: #d1d9e0; stroke-width: 1 } .range { stroke: #1f2328; stroke-width: 1.5 }
.ours0 { fill: #0969da } .ours1 { fill: #80b3f0 } .theirs0 { fill: #8c959f } .theirs1 { fill: #ccd1d6 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .quiet, .axis { fill: #9198a1 } .grid { stroke: #3d444d } .range { stroke: #f0f6fc }
.ours0 { fill: #4493f8 } .ours1 { fill: #2a5a99 } .theirs0 { fill: #7d8590 } .theirs1 { fill: #484f58 }
}"""


@frozen
class Bar:
    """
    A value, its range over rounds, and what is written beside it.
    """

    value: float
    lowest: float
    highest: float
    text: str


@frozen
class Row:
    """
    One program: as many bars as there are series; None where there is no figure.
    """

    name: str
    bars: Sequence[Bar | None]
    ours: bool


@frozen(kw_only=True)
class Chart:
    """
    Horizontal bars, some for each program.

    :param series: what the bars of a row are; one needs no name.
    :param logarithmic: each step of the scale is ten times the one before.
    """

    title: str
    series: Sequence[str]
    rows: Sequence[Row]
    logarithmic: bool = False


@frozen
class _Scale:
    low: float
    high: float
    logarithmic: bool

    def x(self, value: float) -> float:
        """Where a value is."""
        room = _WIDTH - _LEFT - _RIGHT
        if self.logarithmic:
            share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        else:
            share = max(value, 0) / self.high
        return _LEFT + room * share

    def ticks(self) -> list[float]:
        """The values that have a line."""
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**exponent for exponent in range(first, last + 1)]
        step = _round_step(self.high)
        return [step * i for i in range(int(self.high / step) + 1)]


def drawn(chart: Chart) -> str:
    """
    The file's text.
    """
    row_height = _BAR * len(chart.series) + _GAP
    bottom = _TOP + row_height * len(chart.rows)
    scale = _scale(chart)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 28}" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f"<style>{_STYLE}</style>",
        _text(12, 22, chart.title, "title"),
        *_legend(chart),
    ]
    for tick in scale.ticks():
        x = scale.x(tick)
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>')
        lines.append(_text(x, bottom + 16, f"{tick:,.0f}" if tick >= 1 else f"{tick:g}", "axis", anchor="middle"))
    for number, row in enumerate(chart.rows):
        lines += _row(row, _TOP + row_height * number, len(chart.series), scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _row(row: Row, top: float, series: int, scale: _Scale) -> Iterator[str]:
    yield _text(_LEFT - 8, top + _BAR * series / 2 + 4, row.name, "title" if row.ours else "", anchor="end")
    for number, bar in enumerate(row.bars):
        y = top + _BAR * number
        if bar is None:
            yield _text(_LEFT + 4, y + _BAR - 3, "no figure", "quiet")
            continue
        end = scale.x(bar.value)
        kind = f"{'ours' if row.ours else 'theirs'}{number}"
        yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{max(end - _LEFT, 1):.1f}" height="{_BAR - 2}"/>'
        middle = y + (_BAR - 2) / 2
        if bar.highest > bar.lowest:
            low, high = scale.x(bar.lowest), scale.x(bar.highest)
            yield f'<path class="range" d="M{low:.1f} {middle - 3}v6m0-3H{high:.1f}m0-3v6"/>'
        yield _text(max(end, scale.x(bar.highest)) + 6, y + _BAR - 3, bar.text)


def _legend(chart: Chart) -> Iterator[str]:
    if len(chart.series) == 1:
        yield _text(12, 42, chart.series[0], "quiet")
        return
    x = 12.0
    for number, name in enumerate(chart.series):
        yield f'<rect class="theirs{number}" x="{x}" y="32" width="12" height="12"/>'
        yield _text(x + 18, 42, name, "quiet")
        x += 40 + _LETTER * len(name)


def _scale(chart: Chart) -> _Scale:
    bars = [bar for row in chart.rows for bar in row.bars if bar is not None]
    high = max((bar.highest for bar in bars), default=1) or 1
    if not chart.logarithmic:
        step = _round_step(high)
        return _Scale(0, step * math.ceil(high / step), logarithmic=False)
    low = min((bar.lowest for bar in bars if bar.lowest > 0), default=high)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return _Scale(10.0**first, 10.0 ** max(last, first + 1), logarithmic=True)


def _round_step(high: float) -> float:
    raw = high / _TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    return next(step * size for step in (1, 2, 5, 10) if step * size >= raw)


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
