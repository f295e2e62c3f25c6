"""Tokens of one answer -> the text to show: whole characters only, up to a stop string."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from neva.engine.stops import StopFilter


class AnswerText:
    """The text of one answer as its tokens come.

    `strip` leaves out white space at the start, which some templates' answers begin with.
    """

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...], strip: bool) -> None:
        self._tokenizer = tokenizer
        self._stops = StopFilter(stops)
        self._strip = strip
        self._stream = DecodeStream(skip_special_tokens=True)

    @property
    def stopped(self) -> bool:
        """A stop string was met; nothing more will be shown."""
        return self._stops.stopped

    def feed(self, tokens: Sequence[int]) -> str:
        """What can be shown after these tokens; half a character waits for its other half."""
        return self._trim(self._stops.feed("".join(self._piece(token) for token in tokens)))

    def flush(self) -> str:
        """The rest, when no more tokens come."""
        return self._trim(self._stops.flush())

    def _piece(self, token: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception:  # the Rust library gives up when bytes do not join to a character
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""

    def _trim(self, text: str) -> str:
        if self._strip and text:
            text = text.lstrip()
            self._strip = not text
        return text
