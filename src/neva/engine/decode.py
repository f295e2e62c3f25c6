"""Tokens of one answer -> the text to show: whole characters only, up to what ends the answer."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from neva.engine.stops import StopFilter


class AnswerText:
    """The text of one answer as its tokens come.

    `strip` leaves out white space at the start, which some templates' answers begin with. `end` is
    what the template closes an answer with: white space that it begins with is no part of the
    answer either, whether the rest of it comes as text or as one of the tokens `end_ids`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: tuple[str, ...],
        strip: bool,
        end: str = "",
        end_ids: frozenset[int] = frozenset(),
    ) -> None:
        mark = end.lstrip()
        self._space = end.removesuffix(mark) if mark else ""
        self._end_ids = end_ids
        self._tokenizer = tokenizer
        self._stops = StopFilter((*stops, end) if self._space else stops)
        self._strip = strip
        self._closed = False
        self._stream = DecodeStream(skip_special_tokens=True)
        self._said: list[int] = []  # the tokens of the last piece: how others are read after them
        self._waiting: list[int] = []  # tokens after those, of which nothing was said yet

    @property
    def stopped(self) -> bool:
        """The end of the text was cut off, a stop string or the space before the template's end;
        nothing more will be shown."""
        return self._stops.stopped or self._closed

    def feed(self, tokens: Sequence[int]) -> str:
        """What can be shown after these tokens; half a character waits for its other half."""
        return self._trim(self._stops.feed("".join(self._piece(token) for token in tokens)))

    def flush(self, last: int | None = None) -> str:
        """The rest, when no more tokens come; `last` is the token that ended the answer, if one
        did."""
        rest = self._stops.feed(self._rest()) + self._stops.flush()
        if self._space and last in self._end_ids and rest.endswith(self._space):
            rest, self._closed = rest.removesuffix(self._space), True
        return self._trim(rest)

    def _piece(self, token: int) -> str:
        before = ""
        try:
            piece = self._stream.step(self._tokenizer, token)
        except Exception:  # the Rust library gives up when bytes do not join to a character
            before, self._said = self._rest(), []
            self._stream = DecodeStream(skip_special_tokens=True)
            piece = self._stream.step(self._tokenizer, token)
        self._waiting.append(token)
        if piece:
            self._said, self._waiting = self._waiting, []
        return before + (piece or "")

    def _rest(self) -> str:
        """The whole characters of the tokens that wait; the incomplete last one is given up."""
        if not self._waiting:
            return ""
        said, both = (self._read(ids) for ids in (self._said, self._said + self._waiting))
        self._said, self._waiting = self._waiting, []
        return both[len(said) :].rstrip("\ufffd")

    def _read(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def _trim(self, text: str) -> str:
        if self._strip and text:
            text = text.lstrip()
            self._strip = not text
        return text
