"""Stop strings: the answer does not depend on how the text came in pieces."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from neva.engine.stops import StopFilter

LETTERS = st.text("ab#\n", max_size=30)


def show(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, bool, list[str]]:
    stop = StopFilter(stops)
    shown = [stop.feed(piece) for piece in pieces]
    shown.append(stop.flush())
    return "".join(shown), stop.stopped, shown


@settings(deadline=None)  # the machine may be busy
@given(
    text=LETTERS,
    cuts=st.lists(st.integers(0, 30), max_size=8),
    stops=st.lists(st.text("ab#\n", min_size=1, max_size=4), max_size=3),
)
def test_pieces_do_not_matter(text: str, cuts: list[int], stops: list[str]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    shown, stopped, _ = show(pieces, tuple(stops))
    whole, whole_stopped, _ = show([text], tuple(stops))
    letters, letters_stopped, _ = show(list(text), tuple(stops))
    assert (shown, stopped) == (whole, whole_stopped) == (letters, letters_stopped)
    assert text.startswith(shown)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in shown for stop in stops)
    if not stopped:
        assert shown == text


def test_nothing_of_a_stop_string_is_shown_early() -> None:
    _, stopped, shown = show(["one#", "#", "#two"], ("###",))
    assert stopped
    assert shown == ["one", "", "", ""]


def test_what_only_looked_like_a_stop_string_comes_later() -> None:
    _, stopped, shown = show(["one#", "#", "two#"], ("###",))
    assert not stopped
    assert shown == ["one", "", "##two", "#"]
