"""Schedules: a group of operators becomes one PrimFunc."""

from __future__ import annotations

from bnncc.schedules.build import ANCHOR_OPS, EPILOGUE_OPS, build_kernel, is_anchor, makes_image, reads_any_order, stages_image
from bnncc.schedules.choices import Choice, Decisions
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.pooled import pools_as_made

__all__ = [
    "ANCHOR_OPS",
    "Choice",
    "Decisions",
    "EPILOGUE_OPS",
    "Kernel",
    "build_kernel",
    "is_anchor",
    "makes_image",
    "pools_as_made",
    "reads_any_order",
    "stages_image",
]
