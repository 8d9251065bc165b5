"""Compiled models on devices that TVM's RPC makes reachable."""

from bnncc.remote.model import Machine, RemoteModel, load_remote
from bnncc.remote.session import Device

__all__ = ["Device", "Machine", "RemoteModel", "load_remote"]
