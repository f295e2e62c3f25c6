"""Log probabilities of an answer's tokens, in step with the text that is shown of it.

Text may be held back (half a character, a possible stop string), and then its tokens are, too; the
tokens of a stop string are never given, as its text is not. A token that is shown in part (a stop
string begins within it) is given whole, so its text may be longer than what is shown.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neva.engine.protocol import TokenLogprob

LOWEST = -9999.0  # minus infinity is no JSON; OpenAI's own figure for it


@dataclass(frozen=True)
class Scored:
    """One token: its id, its log probability, those of the likeliest tokens, likeliest first."""

    token: int
    logprob: float
    top: Mapping[int, float]


class LogprobTape:
    """The scored tokens of one answer. `strip`: white space at its start is not shown."""

    def __init__(self, spelled: Sequence[bytes], strip: bool) -> None:
        self._spelled = spelled
        self._strip = strip
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._length = 0  # bytes of all tokens
        self._shown = 0  # bytes of text that was shown

    def feed(self, scored: Sequence[Scored]) -> None:
        """The next tokens, without those that end the answer."""
        for one in scored:
            top = tuple(self._named(token, value) for token, value in one.top.items())
            named = self._named(one.token, one.logprob)
            self._waiting.append((self._length, TokenLogprob(*named, top)))
            self._length += self._width(named[1])

    def take(self, text: str, rest: bool = False) -> tuple[TokenLogprob, ...]:
        """The tokens in which `text`, the next to be shown, is spelled; with `rest`, all."""
        self._shown += len(text.encode("utf-8", "replace"))
        taken: list[TokenLogprob] = []
        while self._waiting and (rest or self._waiting[0][0] < self._shown):
            taken.append(self._waiting.popleft()[1])
        return tuple(taken)

    def _named(self, token: int, value: float) -> tuple[str, bytes, float]:
        spelled = self._spelled[token] if token < len(self._spelled) else b""
        return spelled.decode("utf-8", "replace"), spelled, max(value, LOWEST)

    def _width(self, spelled: bytes) -> int:
        if self._strip:
            spelled = spelled.lstrip()
            self._strip = not spelled
        return len(spelled)
