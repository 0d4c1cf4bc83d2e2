"""Links inside the built site: each has to lead to a file, and to a place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LINK = re.compile(r'<(?:a|img)\b[^>]*?\b(?:href|src)="([^"]*)"')
_PLACE = re.compile(r'\b(?:id|name)="([^"]*)"')


def broken(built: Path) -> Iterator[str]:
    """Pages and their links that lead nowhere; those that leave the site are not followed."""
    for page in sorted(built.rglob("*.html")):
        for link in sorted(set(_LINK.findall(page.read_text(encoding="utf-8")))):
            parts = urlsplit(link.replace("&amp;", "&"))
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file() or (parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _places(target)):
                yield f"{page.relative_to(built)}: {link}"


@cache
def _places(page: Path) -> set[str]:
    return set(_PLACE.findall(page.read_text(encoding="utf-8")))
