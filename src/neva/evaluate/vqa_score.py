"""The VQA challenge's soft accuracy: an answer that three annotators gave is right.

Ten people answered each question. Their answer sets without one person each are asked in turn how
many of the other nine agree: min(agreeing / 3, 1), and the mean of the ten is the credit.
"""

from collections.abc import Sequence


def soft_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """Credit 0 to 1 of a normalised answer against the annotators' normalised answers."""
    if not annotators:
        return 0.0
    agreeing = sum(answer == given for given in annotators)
    # Leaving out one who agrees leaves one fewer; leaving out any other leaves them all.
    without_agreeing = min((agreeing - 1) / 3, 1.0) if agreeing else 0.0
    without_other = min(agreeing / 3, 1.0)
    others = len(annotators) - agreeing
    return (agreeing * without_agreeing + others * without_other) / len(annotators)
