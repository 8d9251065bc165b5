"""Where a device is, and a session with it: TVM's RPC server on the device itself, or TVM's RPC tracker, which knows devices by key."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bnncc.errors import DeviceError

__all__ = ["Device", "Session", "count_devices"]


@dataclass(frozen=True)
class Device:
    """A device that TVM's RPC makes reachable.

    Attributes
    ----------
    address : str
        ``host:port`` of TVM's RPC server on the device, or of TVM's RPC tracker; which of the two it is, it says itself.
    key : str
        What the server was started with; a tracker gives any free device of that key.
    timeout : float
        Seconds that the session, and each call, may take.
    """

    address: str
    key: str = ""
    timeout: float = 60.0

    def __str__(self) -> str:
        return f"{self.address} (key {self.key!r})" if self.key else self.address

    @property
    def place(self) -> tuple[str, int]:
        """Host and port.

        Raises
        ------
        DeviceError
            The address is no such pair.
        """
        host, _, port = self.address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise DeviceError(f"{self.address!r} is no address of a device; give host:port, such as 192.168.1.20:9090.")
        return host.strip("[]"), int(port)


class Session:
    """A session of TVM's with a device.

    TVM's client waits without end for a device that says nothing, some of it in destructors, which hold Python's lock. So the system is told how long each
    wait on the connection may last, and after the first one that fails the connection is cut: nothing waits for it again, on this side or the device's.

    Attributes
    ----------
    tvm : tvm.rpc.RPCSession

    Raises
    ------
    DeviceError
        Nothing listens there, nothing answers in time, the server refuses the key, or the tracker knows no device of it.
    """

    def __init__(self, device: Device):
        self._device = device
        self._ended = False
        place, key = _find_server(device)
        others = _connections(place)
        self.tvm = self._opened(place, key, others)
        self._own = _connections(place) - others
        wait = struct.pack("@ll", int(device.timeout), int(device.timeout % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            _on_each(self._own, lambda connection, option=option: connection.setsockopt(socket.SOL_SOCKET, option, wait))

    def _opened(self, place: tuple[str, int], key: str, others: set):
        """Return TVM's session; as its connection is not known before it is there, another thread waits for it."""
        from tvm import rpc

        outcome: list = []

        def connect():
            try:
                outcome.append((rpc.connect(*place, key), None))
            except RuntimeError as error:
                outcome.append((None, error))

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(self._device.timeout)
        if not outcome:
            _on_each(_connections(place) - others, _cut)
            raise self._silence("There is no session with")
        session, error = outcome[0]
        if error is not None and "matches key" in str(error):
            raise DeviceError(f"The RPC server at {self._device.address} refuses the key {self._device.key!r}; give --key what it was started with.") from error
        if error is not None:
            raise self._failure("There is no session with", error) from error
        return session

    def do(self, what: str, action: Callable):
        """Return what `action` returns.

        Raises
        ------
        DeviceError
            It failed, or the device said nothing in time, and the session is over. `what` begins the message.
        """
        if self._ended:
            raise DeviceError(f"The session with {self._device} has ended with an error before; load the model again.")
        try:
            return action()
        except Exception as error:  # whatever TVM raises is the device's answer
            self._ended = True
            _on_each(self._own, _cut)
            late = os.strerror(errno.EAGAIN) in str(error)
            raise (self._silence(what) if late else self._failure(what, error)) from error

    def _silence(self, what: str) -> DeviceError:
        return DeviceError(f"{what} {self._device} within {self._device.timeout:g} s. Does TVM's RPC server still run there? --timeout gives it longer.")

    def _failure(self, what: str, error: Exception) -> DeviceError:
        said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        return DeviceError(f"{what} {self._device}: {said}. See whether its RPC server still runs, and what it wrote.")


def _connections(place: tuple[str, int]) -> set[tuple[int, int]]:
    """Return this process's connections to a place, as file descriptors and what the system numbers them with; TVM tells neither."""
    wanted = {info[4][:2] for info in socket.getaddrinfo(*place, type=socket.SOCK_STREAM)}
    found = set()

    def look(connection: socket.socket, name: tuple[int, int]) -> None:
        if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[:2] in wanted:
            found.add(name)

    for file in map(int, os.listdir("/proc/self/fd")):
        try:
            status = os.fstat(file)
        except OSError:
            continue  # that which read the folder
        if stat.S_ISSOCK(status.st_mode):
            _on_each({(file, status.st_ino)}, lambda connection, name=(file, status.st_ino): look(connection, name))
    return found


def _on_each(connections: set[tuple[int, int]], action: Callable[[socket.socket], None]) -> None:
    """Call `action` with those of the connections that are still there."""
    for file, number in connections:
        try:
            if os.fstat(file).st_ino == number:
                with socket.socket(fileno=os.dup(file)) as connection:
                    action(connection)
        except OSError:
            continue  # closed meanwhile, or not connected


def _cut(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def count_devices(device: Device) -> int:
    """Return how many devices of the key the tracker at the address knows; 1 where a server is there.

    Raises
    ------
    DeviceError
        Nothing answers, or the tracker knows none.
    """
    return _ask_address(device, lambda ask: len(_registered(device, ask)), 1)


def _find_server(device: Device) -> tuple[tuple[str, int], str]:
    """Return the place and the key of the server at the address, or of a free device of the tracker there."""
    return _ask_address(device, lambda ask: _request(device, ask), (device.place, device.key))


def _ask_address(device: Device, question: Callable, otherwise):
    """Return what `question` learns of the tracker at the address, or `otherwise` where a server is there."""
    from tvm.rpc import base

    magic = struct.pack("<i", base.RPC_TRACKER_MAGIC)
    try:
        with socket.create_connection(device.place, device.timeout) as connection:

            def ask(*message):
                base.sendjson(connection, list(message))
                code, *answer = base.recvjson(connection)
                if code != base.TrackerCode.SUCCESS:
                    raise DeviceError(f"The RPC tracker at {device.address} refuses the request for {device.key!r}.")
                return answer[0]

            connection.sendall(magic)
            return question(ask) if _answer(connection) == magic else otherwise  # a server hangs up on what it takes for a stranger
    except TimeoutError as error:
        raise DeviceError(
            f"{device} took the connection but said nothing within {device.timeout:g} s. TVM's RPC server serves one session at a time and so may be busy "
            "(--timeout waits longer), and one whose session broke off in the middle of a message serves no more: start it again, or bnncc/remote/serve.py."
        ) from error
    except OSError as error:
        raise DeviceError(
            f"Nothing answers at {device}: {error.strerror or error}. Start `python -m tvm.exec.rpc_server` on the device, and check host and port."
        ) from error


def _answer(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4, socket.MSG_WAITALL)
    except ConnectionResetError:
        return b""


def _registered(device: Device, ask: Callable) -> list[str]:
    """Return the device's key as often as the tracker knows it."""
    from tvm.rpc import base

    known = [row["key"].partition(":")[2] for row in ask(base.TrackerCode.SUMMARY)["server_info"]]
    if device.key not in known:
        names = ", ".join(repr(key) for key in sorted(set(known))) or "none at all"
        raise DeviceError(f"The RPC tracker at {device.address} knows no device of the key {device.key!r}; it knows {names}. Give one of them by --key.")
    return [key for key in known if key == device.key]


def _request(device: Device, ask: Callable) -> tuple[tuple[str, int], str]:
    """Return the place and the session's own key of a free device of the tracker."""
    from tvm.rpc import base

    count = len(_registered(device, ask))
    try:
        host, port, key = ask(base.TrackerCode.REQUEST, device.key, "", 1)
        return (host, port), key
    except TimeoutError as error:
        raise DeviceError(
            f"The RPC tracker at {device.address} has no free device of the key {device.key!r} within {device.timeout:g} s: {count} of them "
            f"{'is' if count == 1 else 'are'} registered and busy. --timeout waits longer."
        ) from error
