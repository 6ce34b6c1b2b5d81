"""Whether the ports that a stack wants are free, and who has them when they are not."""

import errno
import random
import socket
from collections.abc import Iterable, Sequence

import psutil

from deploy.local.places import OFFSETS, PORTS_SPANNED, Places
from deploy.trouble import Trouble

LOCAL = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def free(port: int) -> bool:
    """Whether a server could listen on this port now, and whoever asks for `localhost` would meet it: on IPv6 too."""
    return all(_free(family, address, port) for family, address in LOCAL)


def _free(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
            probe.bind((address, port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return False
        if family == socket.AF_INET:
            raise  # without IPv6 on this machine nobody else can have the port there
    return True


def owner(port: int) -> str:
    """Who listens on a port, as `java (process 123)`; `another program` where the system will not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and getattr(connection.laddr, "port", 0) == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return "another program"


def require_free(places: Places, names: Iterable[str]) -> None:
    """Refuse to start, naming each port that is taken and the way round it. Raises Trouble."""
    taken = [(name, places.port(name)) for name in names if not free(places.port(name))]
    if not taken:
        return
    told = "; ".join(f"port {port} (for {name}) is taken by {owner(port)}" for name, port in taken)
    moves = []
    if any(name == "gateway" for name, _ in taken):
        moves.append(f"KURSNETT_PORT={_next(places.gateway_port, 1, [0])}")
    if any(name != "gateway" for name, _ in taken):
        moves.append(f"KURSNETT_BASE_PORT={_next(places.base_port, 1000, list(OFFSETS.values()))}")
    raise Trouble(
        f"{told[0].upper()}{told[1:]}.", f"Stop that program, or choose other ports: {' '.join(moves)} make up"
    )


def _next(taken: int, step: int, offsets: Sequence[int]) -> int:
    """A port further up where all the offsets are free."""
    for base in range(taken + step, 60000, step):
        if all(free(base + offset) for offset in offsets):
            return base
    return 18000


def open_block(first: int = 20000, last: int = 32000) -> int:
    """A base port with all the ports that a stack counts from it free, and the one after them for its gateway.

    Two that look at the same time must not find the same, so each begins somewhere else. `last` is below the ports that
    the system gives to outgoing connections.
    """
    bases = list(range(first, last, PORTS_SPANNED + 1))
    for base in random.sample(bases, len(bases)):
        if all(free(port) for port in range(base, base + PORTS_SPANNED + 1)):
            return base
    raise Trouble("No run of free ports was found on this machine.", "Stop some servers and try again.")
