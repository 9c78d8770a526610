"""The addresses that the program listens on."""

import contextlib
import errno
import os
import socket
import stat

from shadowproxy.addresses import TcpAddress, UnixAddress


class StartError(Exception):
    """The sidecar cannot be started here. One line for the operator."""


def release(listen: TcpAddress | UnixAddress, bound: socket.socket) -> None:
    bound.close()
    if isinstance(listen, UnixAddress):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(listen.path)


def bind(listen: TcpAddress | UnixAddress) -> socket.socket:
    try:
        if isinstance(listen, UnixAddress):
            return _bind_unix(listen.path)
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        bound = socket.create_server((listen.host, listen.port), family=family, backlog=2048)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise StartError(f"cannot listen on {listen}: {why}") from error
    bound.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # accepted sockets inherit it; loops differ in setting it
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and _nobody_listens(path):
            os.unlink(path)  # left behind by a process that was killed
    except FileNotFoundError:
        pass
    try:
        bound.bind(path)
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
