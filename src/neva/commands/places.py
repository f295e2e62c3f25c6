"""Where a verb will write: checked before hours of work, not after them."""

from pathlib import Path

from neva.errors import DataError


def check_places(*places: Path | None) -> None:
    """Refuse what could not be written as a file, and two results in one place."""
    given = [place.absolute() for place in places if place is not None]
    for place in given:
        if place.is_dir():
            raise DataError(f"{place} is a folder; give the name of a file in it.")
        if not place.parent.is_dir():
            raise DataError(f"{place.parent} does not exist; make that folder first.")
        aside = place.with_name(place.name + ".part")  # as `write_whole` begins
        try:
            aside.open("ab").close()
            aside.unlink()
        except OSError as error:
            raise DataError(f"{place} cannot be written: {error.strerror}.") from None
    if len({place.resolve() for place in given}) < len(given):
        raise DataError(f"{given[0]} is given twice; two results cannot share a file.")
