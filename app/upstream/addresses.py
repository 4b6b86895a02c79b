"""Which IP addresses are public.

Owns: the ban on addresses that only mean something from where this node stands: its own loopback, its network, its
cloud's metadata service. The lists are written out, with their source, instead of taken from `ipaddress.is_global`, whose
answers have changed between patch releases of Python (CVE-2024-4032).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from app.upstream.url import Address

# IANA IPv4 Special-Purpose Address Registry, every entry that is not globally reachable, and multicast.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791); Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598); Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8",  # loopback (RFC 1122)
        "169.254.0.0/16",  # link-local (RFC 3927); most clouds' metadata service is 169.254.169.254
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # IETF protocol assignments (RFC 6890); Oracle's metadata service is 192.0.0.192
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # 6to4 relays, given up (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved, and 255.255.255.255 (RFC 1112, RFC 919)
        # Globally reachable by the registry, but from a machine in Azure it is the platform itself ("What is IP address
        # 168.63.129.16?"): it hands out the machine's extension settings and certificates.
        "168.63.129.16/32",
    )
)

# Only global unicast is handed out at all (IANA IPv6 Address Space); so what is not in it is not public: ::1, mapped and
# compatible IPv4, fe80::/10, fc00::/7 (AWS's metadata service is fd00:ec2::254), ff00::/8 …
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# … nor are these parts of it (IANA IPv6 Special-Purpose Address Registry).
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocol assignments (RFC 2928), Teredo (RFC 4380) and benchmarks (RFC 5180) among them
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 3056): an IPv4 address in disguise
        "3fff::/20",  # documentation (RFC 9637)
    )
)

# RFC 6052, section 2.1: in a network without IPv4, DNS64 gives *every* IPv4-only host an address in here. The last
# 32 bits are the IPv4 address that is really asked, so they are judged.
_NAT64 = IPv6Network("64:ff9b::/96")

# What a listed *name* may not lead to either: nobody means these, and whoever holds the name's zone could aim them.
_NEVER_BY_NAME_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
        "100.100.100.200/32",
    )
)
_NEVER_BY_NAME_6 = tuple(
    IPv6Network(network) for network in ("::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128")
)


def is_public(address: Address) -> bool:
    """Whether `address` is the same host for everybody on the Internet."""
    match _carried(address):
        case IPv4Address() as four:
            return not any(four in network for network in _NOT_PUBLIC_4)
        case six:
            return six in _GLOBAL_UNICAST and not any(six in network for network in _NOT_PUBLIC_6)


def may_be_named(address: Address) -> bool:
    """Whether a name that an option allows may lead to `address`, be it private or loopback."""
    match _carried(address):
        case IPv4Address() as four:
            return not any(four in network for network in _NEVER_BY_NAME_4)
        case six:
            mapped = six.ipv4_mapped
            return may_be_named(mapped) if mapped else not any(six in network for network in _NEVER_BY_NAME_6)


def _carried(address: Address) -> Address:
    """The IPv4 address that a NAT64 address stands for; any other address as it is."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address
