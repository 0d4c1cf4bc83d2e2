"""The progress bar, loaded without a word: imported inside the functions that draw one."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets tqdm warns when it is imported, and draws its bar as text
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
