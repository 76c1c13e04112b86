"""A TCP port to listen on, as the server takes it and doctor tries it."""

import socket

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        OSError: it is taken, or this user may not have it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Only a listening socket keeps others out: two may be bound to one port.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
