"""Who may ask: API keys, of which only SHA-256 hashes are ever held.

A key file has a key a line, `name sha256 [running=N] [per-minute=N] [only=ask|metrics]
[old=sha256 until=seconds]`, written by `neva key`; `#` starts a comment. A key has 256 random bits,
so a plain hash needs no salt and no slow hashing. The file is read again when it changes: rotation
needs no restart.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neva.errors import NevaError

log = logging.getLogger("neva.server")

LOCAL = "local"
"""The owner of everything on a server without keys."""
NAME = re.compile(r"[\w.@-]{1,64}")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_COUNT = re.compile(r"[1-9][0-9]{0,10}")
SCOPES = ("ask", "metrics")


def hashed(key: str) -> str:
    """The hash under which a key is known."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """A key with 256 random bits."""
    return "neva-" + secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Key:
    """One key: whose it is, its hash, and what it may do."""

    name: str
    digest: str
    running: int | None = None
    """Most answers at once; None: as many as the server makes."""
    per_minute: int | None = None
    """Requests a minute, and how many of them may come at once."""
    only: str | None = None
    """`ask` or `metrics`; None: everything."""
    old: str | None = None
    """The hash of the key before it was rotated, good until `until`."""
    until: int | None = None
    """Seconds since the epoch."""

    @property
    def line(self) -> str:
        """The key as a line of a key file."""
        words = {
            "running": self.running,
            "per-minute": self.per_minute,
            "only": self.only,
            "old": self.old,
            "until": self.until,
        }
        more = "".join(f" {word}={value}" for word, value in words.items() if value is not None)
        return f"{self.name} {self.digest}{more}"

    @classmethod
    def parse(cls, line: str) -> "Key | None":
        """The key of a line; None if the line is wrong."""
        words = line.split()
        if len(words) < 2 or not NAME.fullmatch(words[0]):
            return None
        digest = _DIGEST.fullmatch(words[1])
        more = dict(word.partition("=")[::2] for word in words[2:])
        counts = {name: more.pop(name, None) for name in ("running", "per-minute", "until")}
        only, old = more.pop("only", None), more.pop("old", None)
        bad = [count for count in counts.values() if count and not _COUNT.fullmatch(count)]
        if digest is None or more or bad or only not in (None, *SCOPES):
            return None
        running, per_minute, until = (int(count) if count else None for count in counts.values())
        if (old is None) != (until is None) or (old is not None and not _DIGEST.fullmatch(old)):
            return None
        return cls(words[0], digest[1], running, per_minute, only, old, until)


@dataclass(frozen=True)
class Keys:
    """The accepted keys."""

    keys: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, key: str, now: float | None = None) -> Key | None:
        """Whose key it is, or None. Looks at every key, so time tells nothing."""
        digest, found = hashed(key), None
        now = time.time() if now is None else now
        for known in self.keys:
            same = hmac.compare_digest(digest, known.digest)
            before = hmac.compare_digest(digest, known.old or "") and now < (known.until or 0)
            if same or before:
                found = known
        return found

    def with_key(self, name: str, key: str) -> "Keys":
        """These keys and one more."""
        return Keys((*self.keys, Key(name, hashed(key))))

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """The keys of a file; NevaError names the file and the line that is wrong."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NevaError(f"cannot read the API key file {path}: {error}") from None
        keys: dict[str, Key] = {}
        for number, line in enumerate(lines, 1):
            text = line.split("#", 1)[0].strip()
            if not text:
                continue
            key = Key.parse(text)
            if key is None:
                raise NevaError(
                    f"{path}, line {number}: expected 'name sha256-of-key'; let `neva key new NAME "
                    f"--file {path}` write it"
                )
            if key.name in keys:
                raise NevaError(f"{path}, line {number}: the name {key.name} is there twice")
            keys[key.name] = key
        return cls(tuple(keys.values()))


class KeyRing:
    """Keys that were given, and those of a file as it is now (looked at once a second)."""

    def __init__(
        self, given: Keys, path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._given = given
        self._path = path
        self._clock = clock
        self._seen = self._stamp()
        self._looked = clock()
        self._keys = self._read()

    def _read(self) -> Keys:
        more = Keys.read(self._path).keys if self._path else ()
        return Keys((*self._given.keys, *more))

    def _stamp(self) -> tuple[int, int, int] | None:
        """What changes when the file does, or who may read it."""
        try:
            stat = self._path.stat() if self._path else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) if stat else None

    @property
    def keys(self) -> Keys:
        """The keys now; a file that cannot be read leaves them as they were."""
        if self._path is not None and self._clock() - self._looked >= 1:
            self._looked, stamp = self._clock(), self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._keys = self._read()
                    log.info("keys", extra={"keys": len(self._keys.keys)})
                except NevaError as error:
                    log.error("the keys stay as they were: %s", error)
        return self._keys


def is_loopback(host: str) -> bool:
    """Does only this machine reach `host`? Names other than localhost are taken as public."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
