from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, worker_cache):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("BNNCC_CACHE_DIR", str(worker_cache))


@pytest.fixture(scope="session")
def worker_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")
