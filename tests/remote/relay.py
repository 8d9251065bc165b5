"""A program that passes bytes between a client and a server: ``relay.py HOST:PORT MOST HANG_UP`` prints its port; see `servers.Relay`."""

from __future__ import annotations

import os
import socket
import sys
import threading

server, left, hang_up = sys.argv[1].rpartition(":"), int(sys.argv[2]), sys.argv[3] == "1"


def passed(source: socket.socket, sink: socket.socket, from_client: bool) -> None:
    global left
    while content := source.recv(4096):
        left -= len(content) if from_client else 0
        if left <= 0:
            if hang_up:
                os._exit(0)
            return
        sink.sendall(content)
    sink.shutdown(socket.SHUT_WR)


def accept(listener: socket.socket) -> None:
    while True:
        client, _ = listener.accept()
        behind = socket.create_connection((server[0], int(server[2])))
        threading.Thread(target=passed, args=(client, behind, True), daemon=True).start()
        threading.Thread(target=passed, args=(behind, client, False), daemon=True).start()


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listening,), daemon=True).start()
    for _ in sys.stdin:
        left = 0
        print("stopped", flush=True)
