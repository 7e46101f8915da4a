"""A port of this machine for the workbench. Imports nothing large: a taken port is refused at once."""

import socket

from gossamer.errors import UsageError

HOST, PORT = "127.0.0.1", 8231
# Ports that are tried from the default one on where none was asked for.
_TRIED = 20


def listen(port: int | None) -> socket.socket:
    """A socket of this machine alone.

    Args:
        port: 0 for any free one; None for the first free one from the default on.

    Raises:
        UsageError: the port is taken, or may not be used.
    """
    tried = range(PORT, PORT + _TRIED) if port is None else (port,)
    for one in tried:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, one))
            found.listen()
        except OSError as error:
            found.close()
            reason = error.strerror or error
            continue
        return found
    ports = f"{PORT} to {PORT + _TRIED - 1}" if port is None else str(port)
    raise UsageError(f"port {ports}: cannot be used ({reason}); give --port with another number, or 0 for any")
