"""What results look like in a notebook: one card for all of them, with styles that follow a light and a dark theme.

Nothing is loaded from elsewhere, nothing is a class or a script: a card is text that survives being saved, mailed and converted. Every
function here escapes what it is given, but for arguments named ``body``, which are HTML made here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["badge", "card", "curve", "facts", "figure", "grid", "note", "preformatted"]

# On any background: text is the page's own, lines are half transparent, badges white on a middle tone (contrast above 4.5).
_LINE = "1px solid rgba(128,128,128,.35)"
_TONES = {"good": "#1a7f37", "bad": "#b3261e", "open": "#8a5a00", "plain": "#5f6b76"}
_STROKE = "#3f8fd8"  # of curves: seen on white and on black
_MOST_POINTS = 200  # of a curve: what a picture of this width can show
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 300, 170, 46, 34, 10, 10


def badge(words: str, tone: str = "plain") -> str:
    """A word on a coloured ground; tones are good, bad, open and plain."""
    return (f"<span style='background:{_TONES[tone]};color:#fff;border-radius:3px;padding:1px 7px;white-space:nowrap'>"
            f"{html.escape(words)}</span>")


def note(words: str) -> str:
    """A line of smaller text."""
    return f"<div style='opacity:.8;font-size:90%;margin-top:4px'>{html.escape(words)}</div>"


def preformatted(words: str) -> str:
    """Text whose columns stay aligned."""
    return f"<pre style='background:transparent;color:inherit;margin:6px 0;overflow-x:auto'>{html.escape(words)}</pre>"


def facts(rows: Iterable[tuple[str, Any]]) -> str:
    """Names and what they are, in two columns."""
    made = "".join(f"<tr style='background:transparent'><th style='{_cell(opacity='.75')}'>{html.escape(name)}</th>"
                   f"<td style='{_cell()}'>{html.escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table style='border-collapse:collapse;margin:6px 0'><tbody>{made}</tbody></table>"


def grid(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table with a head of words; cells of `body` are HTML made here."""
    titles = "".join(f"<th scope='col' style='{_cell(opacity='.75')};border-bottom:{_LINE}'>{html.escape(title)}</th>" for title in head)
    rows = "".join("<tr style='background:transparent'>" + "".join(f"<td style='{_cell()};border-bottom:{_LINE}'>{one}</td>" for one in row)
                   + "</tr>" for row in body)
    return (f"<div style='overflow-x:auto'><table style='border-collapse:collapse;margin:6px 0'><thead><tr>{titles}</tr></thead>"
            f"<tbody>{rows}</tbody></table></div>")


def _cell(**more: str) -> str:
    style = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;background:transparent;max-width:46em;white-space:normal"
    return ";".join([style, *(f"{name}:{value}" for name, value in more.items())])


def card(title: str, words: str, tone: str, body: Iterable[str], after: str = "", beside: str = "") -> str:
    """A result: its kind, a badge, text after it, and its parts one below the other, with a picture beside them where there is one."""
    head = f"<div><span style='font-weight:600'>{html.escape(title)}</span> {badge(words, tone)}"
    head += f" <span style='opacity:.8'>{html.escape(after)}</span></div>" if after else "</div>"
    parts = "".join(body)
    inside = (f"<div style='display:flex;flex-wrap:wrap;gap:0 24px;align-items:flex-start'><div>{parts}</div>"
              f"<div style='margin-top:6px'>{beside}</div></div>") if beside else parts
    return f"<div style='border-left:3px solid {_TONES[tone]};padding:2px 0 2px 12px;margin:4px 0'>{head}{inside}</div>"


def figure(picture: Any, dpi: int = 90) -> str:
    """A matplotlib figure as an image inside the page, on the white ground that it was drawn for."""
    import base64
    from io import BytesIO

    buffer = BytesIO()
    picture.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img alt='the figure' style='max-width:100%;height:auto' src='data:image/png;base64,{data}'>"


# --- a small curve, drawn without matplotlib: a millisecond, and in the page's own colours ----------------------------------------


def curve(x: Any, y: Any, x_name: str, y_name: str) -> str:
    """A curve of positive numbers on logarithmic axes, as SVG; the empty text where fewer than two points can be shown."""
    x, y = (np.asarray(one, dtype=np.float64) for one in (x, y))
    with np.errstate(invalid="ignore"):
        shown = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if shown.sum() < 2:
        return ""
    across, up = _Axis.of(x[shown], _LEFT, _WIDTH - _RIGHT), _Axis.of(y[shown], _HEIGHT - _BOTTOM, _TOP)
    points = np.stack([across.places(x[shown]), up.places(y[shown])], axis=1).round(1)
    kept = np.unique(np.linspace(0, len(points) - 1, _MOST_POINTS).round().astype(int))
    path = " ".join(f"{a:g},{b:g}" for a, b in points[kept])
    low, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    ticks = "".join(
        f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{low}' y2='{low + 4}' stroke='currentColor'/>"
        f"<text x='{at:.1f}' y='{low + 15}' text-anchor='middle'>{word}</text>" for at, word in across.ticks(5))
    ticks += "".join(
        f"<line x1='{_LEFT - 4}' x2='{_LEFT}' y1='{at:.1f}' y2='{at:.1f}' stroke='currentColor'/>"
        f"<text x='{_LEFT - 6}' y='{at + 3.5:.1f}' text-anchor='end'>{word}</text>" for at, word in up.ticks(5))
    names = (f"<text x='{(_LEFT + right) / 2}' y='{_HEIGHT - 4}' text-anchor='middle'>{html.escape(x_name)}</text>"
             f"<text x='{right}' y='{_TOP + 8}' text-anchor='end'>{html.escape(y_name)}</text>")
    label = html.escape(f"{y_name} against {x_name}: {y[shown][0]:.3g} at {x[shown][0]:.3g}, {y[shown][-1]:.3g} at {x[shown][-1]:.3g}")
    return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' "
            f"aria-label='{label}' font-size='10' font-family='sans-serif' fill='currentColor'>"
            f"<path d='M{_LEFT} {_TOP}V{low}H{right}' fill='none' stroke='currentColor' stroke-opacity='.6'/>{ticks}{names}"
            f"<polyline points='{path}' fill='none' stroke='{_STROKE}' stroke-width='1.8' stroke-linejoin='round'/></svg>")


class _Axis:
    """Decades between two ends of a picture."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    @classmethod
    def of(cls, values: np.ndarray, start: float, end: float) -> _Axis:
        """The axis of these numbers: whole decades where they cover a few, else just their range."""
        low, high = float(np.log10(values.min())), float(np.log10(values.max()))
        if high - low > 1.5:
            low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
        elif high - low < 1e-9:  # a constant
            low, high = low - 0.05, high + 0.05
        return cls(low, high, start, end)

    def places(self, values: Any) -> Any:
        """Where the values are."""
        return self.start + (np.log10(values) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Places and words of a few ticks: powers of ten, or both ends where less than two are in sight."""
        first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        if last - first < 1:
            return [(float(self.places(10.0**end)), f"{10.0**end:.3g}") for end in (self.low, self.high)]
        chosen = range(first, last + 1, max(1, math.ceil((last - first) / (most - 1))))
        return [(self.start + (power - self.low) / (self.high - self.low) * (self.end - self.start), _power(power)) for power in chosen]


def _power(power: int) -> str:
    """A power of ten, in figures where it is short."""
    if -2 <= power <= 3:
        return f"{10.0**power:g}"
    return f"10<tspan dy='-4' font-size='8'>{str(power).replace('-', '−')}</tspan>"
