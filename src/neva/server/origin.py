"""Whether a page of another origin sends a request that would change something.

Without CORS such a page cannot read our answers, but its forms and files would still be taken. What
browsers say of a page (`Sec-Fetch-Site`, `Origin`) no page can change; tools say neither.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from neva.server.errors import ApiError

READING = ("GET", "HEAD", "OPTIONS")
PORTS = {"http": 80, "https": 443}


def check_origin(method: str, headers: Mapping[str, str], allowed: Sequence[str]) -> None:
    """ApiError 403 for a page of another origin than ours and those `allowed`.

    Browsers that know `Sec-Fetch-Site` tell what is ours, whatever a proxy made of the Host.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if method in READING or site == "same-origin" or origin in allowed or "*" in allowed:
        return
    if site in (None, "none") and (origin is None or _ours(origin, headers)):
        return
    raise ApiError(
        403, "pages of another origin may not call this server unless `--cors ORIGIN` names it"
    )


def _ours(origin: str, headers: Mapping[str, str]) -> bool:
    """Is it the origin that the client, or a proxy for it, has asked?

    The scheme may differ, for a proxy may terminate TLS. A page cannot send `X-Forwarded-Host`
    without a preflight.
    """
    scheme, _, name = origin.partition("://")
    hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
    place = _place(scheme, name)
    return place is not None and any(_place(scheme, host.strip()) == place for host in hosts)


def _place(scheme: str, host: str) -> tuple[str, int | None] | None:
    """Name and port; None for what is neither."""
    try:
        parts = urlsplit(f"//{host}")
        return (parts.hostname, parts.port or PORTS.get(scheme)) if parts.hostname else None
    except ValueError:
        return None
