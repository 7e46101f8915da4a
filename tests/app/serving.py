"""A workbench behind a real server in this process: what is streamed, and who hangs up, is seen only there."""

import threading
import time
from contextlib import contextmanager

import uvicorn
from workbench_run import TOKEN

from gossamer.app.guard import loopback_hosts
from gossamer.app.server import create_app, listen


@contextmanager
def serving(bench):
    """Gives the port."""
    socket = listen(0)
    port = socket.getsockname()[1]
    app = create_app(bench, TOKEN, loopback_hosts(port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()
        socket.close()
