"""Who may ask: API keys, of which only SHA-256 hashes are ever held.

A key file has one `name sha256-of-key` a line (`neva key new` writes it); `#` starts a comment.
A key has 256 random bits, so a plain hash needs no salt and no slow hashing.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neva.errors import NevaError

LOCAL = "local"
"""The owner of everything on a server without keys."""

_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?:sha256:)?(?P<digest>[0-9a-f]{64})")


def hashed(key: str) -> str:
    """The hash under which a key is known."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """A key with 256 random bits."""
    return "neva-" + secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Keys:
    """The accepted keys: `digests` maps an owner's name to the key's SHA-256 in hex."""

    digests: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def owner(self, key: str) -> str | None:
        """Whose key it is, or None. Looks at every key, so time tells nothing."""
        digest, found = hashed(key), None
        for name, known in self.digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def with_key(self, name: str, key: str) -> "Keys":
        """These keys and one more."""
        return Keys({**self.digests, name: hashed(key)})

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """The keys of a file; NevaError names the file and the line that is wrong."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NevaError(f"cannot read the API key file {path}: {error}") from None
        digests: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            text = line.split("#", 1)[0].strip()
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise NevaError(
                    f"{path}, line {number}: expected 'name sha256-of-key'; make a line with "
                    f"`printf %s KEY | sha256sum`"
                )
            if match["name"] in digests:
                raise NevaError(f"{path}, line {number}: the name {match['name']} is there twice")
            digests[match["name"]] = match["digest"]
        if not digests:
            raise NevaError(f"{path} has no keys, so nobody could use the server; add one")
        return cls(digests)


def is_loopback(host: str) -> bool:
    """Does only this machine reach `host`? Names other than localhost are taken as public."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
