"""Keeps webhooks from being turned against us: which addresses may be called, and which connection is opened."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

LONGEST_URL = 2000
PORTS = (443,)
RESOLVERS = 32  # a name whose servers are silent holds a thread for half a minute; the others must not wait for it
MOST_ADDRESSES = 3  # of one name that are tried

# A name with a dot whose last part is a word: no number, however spelled, and no name without a domain, is one.
_NAME = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")
_PLACE = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:@%\\/\s]+)(?::(?P<port>[0-9]{1,5}))?")
_PRINTABLE = re.compile(r"[!-~]+")
# Names that never lead to the public network (RFC 6761, 6762, 7686, 8375, and what houses use inside).
INSIDE = (
    *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan"),
    *("home.arpa", "test", "invalid", "onion", "alt"),
)
# `ipaddress.is_global` calls some of these global, and other ones in each version of Python: so they stand here.
_V4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4
240.0.0.0/4 168.63.129.16/32
"""
# Within 2000::/3, outside of which nothing is called at all: loopback, ULA, link-local, multicast, NAT64 and the IPv4
# that is embedded below ::/96 all lie there.
_V6 = "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
REFUSED_V4 = tuple(ip_network(text) for text in _V4.split())
REFUSED_V6 = tuple(ip_network(text) for text in _V6.split())
GLOBAL_V6 = ip_network("2000::/3")

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """This address is not called. The words say why, and hold nothing of it."""


@dataclass(frozen=True)
class Target:
    """A checked address in its parts. `exempt`: this host and port are allowed by the operators, whatever they are."""

    scheme: str
    host: str  # of an IPv6 address without brackets
    port: int
    path: str  # with the query
    exempt: bool = False

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"


def places(text: str) -> frozenset[tuple[str, int]]:
    """`127.0.0.1:9000,[::1]:9001` as host and port. Raises ValueError for anything else."""
    found = set()
    for one in filter(None, (part.strip().lower() for part in text.split(","))):
        match = _PLACE.fullmatch(one)
        if match is None or match["port"] is None or not 1 <= int(match["port"]) <= 65535:
            raise ValueError("must be host:port with commas between, such as 127.0.0.1:9000")
        found.add((match["host"].strip("[]"), int(match["port"])))
    return frozenset(found)


def is_public(address: str) -> bool:
    """Whether this IP address is one of the public network, and nobody's inside in disguise."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 4:
        return ip.is_global and not any(ip in network for network in REFUSED_V4)
    return ip in GLOBAL_V6 and "%" not in address and not any(ip in network for network in REFUSED_V6)


class Resolver:
    """The system's, in threads of its own: those of the event loop are few, and a name may be slow by design.

    They are daemons: a process that stops does not wait for a name server.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(RESOLVERS)

    async def __call__(self, host: str, port: int) -> list[str]:
        if _is_ip(host):
            return [host]
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def give(found: list[str], error: Exception | None) -> None:
            self._free.release()
            if answer.done():  # whoever asked has given up
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def ask() -> None:
            found: list[str] = []
            error: Exception | None = None
            try:
                told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(one[4][0]) for one in told))
            except (OSError, UnicodeError) as wrong:
                error = wrong
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(give, found, error)

        threading.Thread(target=ask, name="resolve", daemon=True).start()
        return await answer


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """What may be called. `ours`: names that are nobody else's to give. `allow`: host and port that are exempt."""

    def __init__(
        self, allow: Iterable[tuple[str, int]] = (), ours: Iterable[str] = (), resolve: Resolve | None = None
    ) -> None:
        self._allow = frozenset(allow)
        self._ours = frozenset(name.lower() for name in ours)
        self._resolve = resolve or Resolver()

    def target(self, url: str) -> Target:
        """The address in its parts. Raises Refused, with words for whoever gave it."""
        if len(url) > LONGEST_URL:
            raise Refused(f"must be at most {LONGEST_URL} characters")
        if not _PRINTABLE.fullmatch(url) or "\\" in url:
            raise Refused("must be printable ASCII without spaces and backslashes; write a host's letters as xn--…")
        if "#" in url:
            raise Refused("must have no fragment (#…)")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise Refused("must be https://host/path") from None
        place = _PLACE.fullmatch(parts.netloc.lower())
        if parts.scheme not in ("https", "http") or place is None or not url.lower().startswith(f"{parts.scheme}://"):
            raise Refused("must be https://host/path, without user and password")
        host, port = place["host"].strip("[]"), int(place["port"] or (443 if parts.scheme == "https" else 80))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if (host, port) in self._allow:
            return Target(parts.scheme, host, port, path, exempt=True)
        if parts.scheme != "https":
            raise Refused("must be https")
        if port not in PORTS:
            raise Refused(f"must be on port {PORTS[0]}")
        if place["host"].startswith("[") or not _NAME.fullmatch(host):
            raise Refused("must name its host by a full domain name, not by an IP address or a name within a network")
        if host in self._ours or any(host == name or host.endswith(f".{name}") for name in INSIDE):
            raise Refused("must name a host of your own on the public network")
        return Target(parts.scheme, host, port, path)

    async def addresses(self, target: Target) -> list[str]:
        """The IP addresses of its host, each of them checked. Raises Refused, also when it has none."""
        try:
            found = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            raise Refused("has a host that is not known to the name servers") from None
        if not found:
            raise Refused("has a host that is not known to the name servers")
        if not target.exempt and not all(is_public(one) for one in found):
            raise Refused("has a host with an address that is not of the public network")
        return found[:MOST_ADDRESSES]
