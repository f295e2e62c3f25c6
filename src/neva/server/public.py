"""Which addresses are on the open internet.

Python's tables know what IANA keeps from it, in its version; clouds serve secrets at addresses
that IANA calls global, and some networks carry an IPv4 address inside: those are listed here.
"""

import ipaddress

NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        # Metadata and platform services that look like the open internet, and the networks of the
        # others, whatever version of Python's tables there is.
        "168.63.129.16/32",  # Azure's WireServer: learn.microsoft.com, "What is 168.63.129.16"
        "192.0.0.0/24",  # RFC 6890; 192.0.0.192 was Oracle's metadata: docs.oracle.com, OCI Classic
        "169.254.0.0/16",  # RFC 3927; .169.254 AWS, GCP, Azure, OCI; .170.2 AWS ECS
        "100.64.0.0/10",  # RFC 6598; 100.100.100.200 Alibaba: alibabacloud.com/help, ECS metadata
        "fc00::/7",  # RFC 4193; fd00:ec2::254 AWS, fd20:ce::254 GCP: their pages on IPv6 metadata
        "fec0::/10",  # RFC 3879: site-local, no longer given out, still routed inside
        # IPv6 with an IPv4 address inside: honest hosts have that address in the open.
        "::/96",  # RFC 4291, IPv4-compatible
        "::ffff:0:0/96",  # RFC 4291, IPv4-mapped
        "::ffff:0:0:0/96",  # RFC 2765, IPv4-translated
        "64:ff9b::/96",  # RFC 6052, NAT64
        "64:ff9b:1::/48",  # RFC 8215, a network's own NAT64
        "2001::/32",  # RFC 4380, Teredo
        "2002::/16",  # RFC 3056, 6to4
        "192.88.99.0/24",  # RFC 7526, 6to4's relay
        # Global in the tables of older Pythons.
        "3fff::/20",  # RFC 9637, documentation
        "5f00::/16",  # RFC 9602, segment routing
    )
)


def is_public(address: str) -> bool:
    """Whether an address is on the open internet, in whatever way it is wrapped."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip.version == network.version and ip in network for network in NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
