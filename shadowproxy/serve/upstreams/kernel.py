"""What the kernel knows of a connection, and the event loop does not say. Sockets here never block.

- A server that answers an upload without reading it and closes makes the kernel send a reset. The first write after
  that fails, and both event loops then close their transport at once, without a look at what had come before. It is
  still there: Linux keeps what was received before a reset until it is read. (gunicorn with a 401, hypercorn: of 80
  uploads of 3 MB the answer to 40 was lost.)
- That a server has closed a connection is in the kernel before the loop has had a turn to say so.
- An answer that comes while a part of the request is not acknowledged is one that did not wait for the request. A
  connection that ends while a part of it is not was closed before the server had the request.
"""

import fcntl
import select
import socket
import struct
import termios

AT_ONCE = 256 * 1024


def received(sock: socket.socket) -> bytes:
    """What has come and was not read. It is at most as much as the kernel holds for a connection."""
    pieces: list[bytes] = []
    try:
        while piece := sock.recv(AT_ONCE):
            pieces.append(piece)
    except OSError:
        pass  # nothing more, or the connection has ended
    return b"".join(pieces)


def watcher(sock: socket.socket) -> select.poll:
    """What `is_silent` asks by: a third of what it costs to peek, as nothing is raised where there is nothing."""
    watching = select.poll()
    watching.register(sock, select.POLLIN)
    return watching


def is_silent(watching: select.poll) -> bool:
    """Whether there is nothing to read: no bytes, and no end either."""
    return not watching.poll(0)


def unacknowledged(sock: socket.socket) -> int:
    """How many bytes that were sent the other side's kernel has not taken; 0 where that cannot be known."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # it is closed on this side
        return 0
    return int(count)
