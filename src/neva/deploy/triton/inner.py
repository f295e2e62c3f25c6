"""What `neva_whole` and `neva` tell each other beside tensors, as parameters and in errors.

Triton 2.51 makes every error of a request between models INTERNAL, so that a client's own fault
would be the server's, and such a request cannot be cancelled. Parameters come from clients too:
a key is long and random, so that nobody can end an answer that is not theirs.
"""

KEY = "neva_whole_key"
"""Parameter of a request of `neva_whole`: its name, by which it can be ended."""
LEFT = "neva_whole_left"
"""Parameter of a request that asks nothing: the key of one whose client has left."""
INTERNAL = "INTERNAL"
CODES = ("INVALID_ARG", "UNAVAILABLE", INTERNAL)
"""Names of pb.TritonError's codes."""


def marked(code: str, sentence: str) -> str:
    """An error's sentence with its code in front, for `neva_whole`."""
    return f"{code}: {sentence}"


def unmarked(message: str) -> tuple[str, str]:
    """The code and the sentence; INTERNAL for what Triton itself says."""
    code, _, sentence = message.partition(": ")
    return (code, sentence) if code in CODES else (INTERNAL, message)
