"""What all tests share."""

import pytest

from overparam.theory import certainty


@pytest.fixture(autouse=True)
def mistakes_of_checkers_are_raised(monkeypatch):
    """A checker that fails reports that; in tests it fails."""
    monkeypatch.setattr(certainty, "STRICT", True)
