"""What the README points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


def linked(text):
    """Targets of the links and pictures in a Markdown text that are files, without fragments."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # code is not prose
    targets = re.findall(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)", text) + re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    targets += re.findall(r"<(?:img|a)\b[^>]*?\b(?:src|href)=[\"']([^\"']+)", text)
    return sorted({target.split("#")[0] for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|#", target)})


def test_links_are_found():
    text = "[a](x.md#part) ![b](docs/y.png) [web](https://z.org) [in](#here)\n```\n[c](code.md)\n```\n[r]: z.txt\n<img src='i.png'>\n"
    assert linked(text) == ["docs/y.png", "i.png", "x.md", "z.txt"]


@pytest.mark.parametrize("target", linked((TOP / "README.md").read_text(encoding="utf-8")))
def test_what_the_readme_links_to_exists(target):
    assert (TOP / target).exists()


def test_its_picture_is_small():
    picture = TOP / "docs" / "figure_1.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size <= 200_000
