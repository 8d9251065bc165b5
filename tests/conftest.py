"""What holds for all tests."""

from __future__ import annotations

import os
import tempfile

# no test reads what the user has tuned, or adds to it
os.environ["BNNCC_TUNING_DIR"] = os.path.join(tempfile.gettempdir(), f"bnncc-no-records-{os.getpid()}")
