"""The addresses that the program listens on."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Collection

from shadowproxy.addresses import Address, TcpAddress, UnixAddress

BACKLOG = 2048


class StartError(Exception):
    """The sidecar cannot be started here. One line for the operator."""


def release(listen: Address, bound: socket.socket, inode: int | None = None) -> None:
    """`inode` is that of a Unix socket's file: one that another program has put in its place since then stays."""
    bound.close()
    unlist(listen, inode)


def unlist(listen: Address, inode: int | None = None) -> None:
    """Remove a Unix socket's file: nobody finds it any more, and those that have connected stay connected."""
    if isinstance(listen, UnixAddress):
        with contextlib.suppress(FileNotFoundError):
            if inode is None or os.stat(listen.path).st_ino == inode:
                os.unlink(listen.path)


def inode_of(listen: Address) -> int | None:
    """The inode of a Unix socket's file; None for other addresses, and where there is no file."""
    if isinstance(listen, UnixAddress):
        with contextlib.suppress(FileNotFoundError):
            return os.stat(listen.path).st_ino
    return None


def bind(listen: Address, beside: Collection[Address] = ()) -> socket.socket:
    """`beside` are the program's other addresses. Raises StartError."""
    try:
        if isinstance(listen, UnixAddress):
            return _bind_unix(listen.path)
        bound = listen_tcp(listen, beside)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise StartError(f"cannot listen on {listen}: {why}") from error
    bound.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # accepted sockets inherit it; loops differ in setting it
    bound.setblocking(False)
    return bound


def listen_tcp(address: TcpAddress, beside: Collection[Address] = ()) -> socket.socket:
    """Raises OSError. `[::]` gets IPv4 connections too, unless `beside` has an IPv4 address with its port."""
    if not address.is_ipv6:
        return socket.create_server((address.host, address.port), backlog=BACKLOG)
    shared = any(
        isinstance(each, TcpAddress) and not each.is_ipv6 and each.port == address.port != 0 for each in beside
    )
    both = not shared and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (address.host, address.port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        # A kernel without IPv6 (ipv6.disable=1) has no such sockets: one configuration is to serve on any machine.
        if error.errno != errno.EAFNOSUPPORT or shared or not address.is_wildcard:
            raise
        return socket.create_server(("0.0.0.0", address.port), backlog=BACKLOG)


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and _nobody_listens(path):
            os.unlink(path)  # left behind by a process that was killed
    except FileNotFoundError:
        pass
    try:
        bound.bind(path)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
