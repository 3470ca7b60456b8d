"""Building blocks of self-contained HTML pages: style, tables, lists and pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Sequence
from html import escape

from .tables import Table

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667; --line: #ccd; --fill: #3f7fbf; --page: #fff;
  --wrong: #d9534f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #99a; --line: #445; --fill: #6fb1ee; --page: #14181d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 76rem; padding: 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: right; overflow-wrap: normal; }
th { vertical-align: bottom; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
svg { display: block; width: 100%; height: auto; max-width: 52rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } .axis { stroke: var(--line); } .dot { fill: var(--fill); fill-opacity: .25; }
.box { fill: none; stroke: var(--ink); stroke-width: 1.5; } .no { color: #d33; font-weight: 600; }
.line { fill: none; stroke: currentColor; stroke-width: 2; } .line, .mark, .keys li::before { color: var(--fill); }
.line1, .keys .key1::before { color: #d9822b; } .line2, .keys .key2::before { color: #3a9d6a; }
.line3, .keys .key3::before { color: #c0507f; } .line4, .keys .key4::before { color: #8a6fd1; }
.keys { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.keys li::before { content: "\\2501\\a0"; font-weight: 700; }
.limit { stroke: var(--ink); stroke-dasharray: 4 4; fill: none; }
.bar { fill: var(--fill); } .mark { fill: currentColor; stroke: var(--page); } .range { stroke: var(--ink); }
li, p { color: var(--soft); }
.wide { overflow-x: auto; } .matrix { width: auto; } .matrix td { text-align: center; min-width: 2.6rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 45%), 1fr)); gap: .8rem; }
figure { margin: 0; } figure img { width: 100%; border-radius: .4rem; display: block; }
figcaption { font-size: 13px; color: var(--soft); }
@media (max-width: 60rem) {
  .cards, .cards tbody { display: block; } .cards tr:first-child { display: none; }
  .cards tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: .1rem .8rem;
    border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; padding: .4rem .6rem; }
  .cards td { text-align: left; border: 0; padding: .1rem 0; }
  .cards td:first-child { grid-column: 1 / -1; font-weight: 600; }
  .cards td:not(:first-child)::before { content: attr(data-head); display: block; color: var(--soft);
    font-size: 12px; } }
@media (max-width: 32rem) { svg text { font-size: 18px; } ol, ul { padding-left: 1.2rem; } }
"""


def page(title: str, body: str) -> str:
    """Wrap a body in a self-contained page."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{body}
</body></html>
"""


def section(title: str, content: str, caption: str = "") -> str:
    """Render charts or pictures with a heading and a caption; no content renders as nothing."""
    note = f"<p>{escape(caption)}</p>" if caption else ""
    return f"<h2>{escape(title)}</h2>{content}{note}" if content else ""


def bullets(title: str, items: Sequence[str]) -> str:
    """Render a list with a heading; an empty list renders as nothing."""
    return section(title, f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else "")


def table(content: Table, *, alarms: Collection[str] = ()) -> str:
    """Render a table; on a phone each row becomes a card.

    Args:
        content: Headings and rows.
        alarms: Words that turn a cell red if its text up to the first comma equals one of them.
    """
    head, rows = content

    def cell(heading: str, text: str) -> str:
        alarm = " class=no" if text.split(",")[0] in alarms else ""
        return f'<td{alarm} data-head="{escape(heading)}">{escape(text)}</td>'

    body = "".join(f"<tr>{''.join(map(cell, head, row))}</tr>" for row in rows)
    return f"<table class=cards><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{body}</table>"


def gallery(pictures: Sequence[tuple[bytes, str]]) -> str:
    """Render pictures side by side.

    Args:
        pictures: JPEG data and caption of each picture.
    """
    figures = (
        f'<figure><img alt="" src="data:image/jpeg;base64,{b64encode(jpeg).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for jpeg, caption in pictures
    )
    return f"<div class=gallery>{''.join(figures)}</div>"
