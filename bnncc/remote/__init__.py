"""Compiled models on a board that TVM's RPC server makes reachable."""

from bnncc.remote.session import load_remote

__all__ = ["load_remote"]
