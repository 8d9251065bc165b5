"""TVM's RPC server for a device, made to last: ``python serve.py --key K [--tracker HOST:PORT]``, with TVM alone, so the file may be copied there.

``python -m tvm.exec.rpc_server`` of TVM 0.27 keeps its port but serves no more after a session whose process failed, as when the client was killed in the
middle of a message, and after a tracker was away for a minute. This one logs the first and goes on, and waits for the tracker.
"""

from __future__ import annotations

import argparse

__all__ = ["main"]


def _last() -> None:
    """Change TVM's server in the process that serves."""
    import functools
    import os

    from tvm.rpc import base, server

    serve = server._serving

    def serving(connection, address, options, libraries):
        folder = os.getcwd()
        try:
            serve(connection, address, options, libraries)
        except RuntimeError as error:
            server.logger.warning("the session with %s failed: %s", address, error)
            os.chdir(folder)  # from the session's own, which is removed
            connection.close()

    server._serving = serving
    base.connect_with_retry = functools.partial(base.connect_with_retry, timeout=float("inf"))


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="TVM's RPC server for a device, made to last.")
    parser.add_argument("--host", default="0.0.0.0", help="The address it binds to.")
    parser.add_argument("--port", type=int, default=9090, help="The first port it tries.")
    parser.add_argument("--port-end", type=int, default=9199, help="The port behind the last one it tries.")
    parser.add_argument("--key", default="", help="What clients ask for.")
    parser.add_argument("--tracker", help="host:port of a tracker that gives this device out.")
    given = parser.parse_args()
    if given.tracker and not given.key:
        parser.error("a tracker knows devices by --key")
    host, _, port = (given.tracker or "").rpartition(":")

    from tvm import rpc

    tracker = (host, int(port)) if given.tracker else None
    served = rpc.Server(given.host, given.port, given.port_end, key=given.key, tracker_addr=tracker, server_init_callback=_last)
    served.proc.join()


if __name__ == "__main__":
    main()
