"""A verb of `neva` in this process."""

import sys

import pytest

from neva.cli import main


def exit_code(monkeypatch: pytest.MonkeyPatch, verb: str, *words: object) -> int:
    """What `neva VERB WORDS` ends with."""
    monkeypatch.setattr(sys, "argv", ["neva", verb, *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)
