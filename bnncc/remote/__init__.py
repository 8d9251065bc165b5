"""Compiled models on devices that TVM's RPC makes reachable."""

from bnncc.remote.library import Machine, RemoteLibrary, compile_for_device
from bnncc.remote.model import RemoteModel, load_remote
from bnncc.remote.session import Device, count_devices

__all__ = ["Device", "Machine", "RemoteLibrary", "RemoteModel", "compile_for_device", "count_devices", "load_remote"]
