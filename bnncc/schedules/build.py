"""From a group to its schedule: the anchor decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bnncc.errors import InternalError
from bnncc.ops import dtype_of, static_shape
from bnncc.schedules import contract_float, contract_int8, contract_signs, gather, movement, packed, planes, windows
from bnncc.schedules.builder import Builder
from bnncc.schedules.choices import Choices, Decisions
from bnncc.schedules.elementwise import ELEMENTWISE
from bnncc.schedules.fallback import legalized
from bnncc.schedules.group import Group, Tensor, read_group
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar import signed_sums
from bnncc.schedules.staging import PROLOGUE_OPS, fits_stage
from bnncc.schedules.traced import TRACE, traced
from bnncc.targets import Variant

__all__ = ["ANCHOR_OPS", "EPILOGUE_OPS", "IMAGE_OPS", "build_kernel", "is_anchor", "makes_image", "reads_any_order", "stages_image"]

_ANCHORS: dict[str, Callable[[Builder, Tensor], Kernel]] = {
    "relax.bnn.packed_conv2d": packed.packed_conv2d,
    "relax.bnn.packed_dense": packed.packed_dense,
    "relax.bnn.plane_conv2d": planes.plane_conv2d,
    "relax.bnn.plane_dense": planes.plane_dense,
    "relax.bnn.conv2d": contract_int8.conv2d,
    "relax.bnn.dense": contract_int8.dense,
    "relax.bnn.signed_sum_conv2d": signed_sums.signed_sum_conv2d,
    "relax.bnn.sign_conv2d": contract_signs.sign_conv2d,
    "relax.bnn.sign_dense": contract_signs.sign_dense,
    "relax.bnn.pad": movement.pad,
    "relax.nn.conv2d": contract_float.conv2d,
    "relax.matmul": contract_float.matmul,
    "relax.nn.max_pool2d": windows.max_pool2d,
    "relax.nn.avg_pool2d": windows.avg_pool2d,
    "relax.mean": windows.mean,
    "relax.bnn.packed_max_pool2d": windows.packed_max_pool2d,
    "relax.bnn.packed_pad": movement.pad,
    "relax.bnn.packed_logic": movement.packed_logic,
    "relax.bnn.gather_channels": gather.gather_channels,
    "relax.nn.pad": movement.pad,
}

ANCHOR_OPS: frozenset[str] = frozenset(_ANCHORS)
"""Operators of which a group may hold one, with elementwise ones after it."""

_STAGING_OPS = frozenset({"relax.bnn.packed_conv2d", "relax.bnn.plane_conv2d", "relax.bnn.conv2d", "relax.nn.conv2d"})

IMAGE_OPS: frozenset[str] = _STAGING_OPS | {"relax.bnn.signed_sum_conv2d"}
"""Anchors whose first operand may be made by `PROLOGUE_OPS` of their own group."""

EPILOGUE_OPS: frozenset[str] = frozenset(ELEMENTWISE) | {"relax.bnn.quantize", "relax.bnn.pack", "relax.bnn.unpack", "relax.bnn.repeat_channels"}
"""Operators that may stand around the anchor; results of pack may only be returned."""


def build_kernel(group: relax.Function, variant: Variant, decided: Decisions | None = None, strict: bool = True) -> Kernel:
    """Build the kernel of a group.

    Parameters
    ----------
    group : relax.Function
        One dataflow block of static shapes, at most one operator of `ANCHOR_OPS` and any of `EPILOGUE_OPS`; or one operator of any other kind.
        Attribute ``bnncc.const_params``: indices of the parameters that are constants of the model. Constants of one element are inline.
    variant : Variant
    decided : mapping, optional
        Answers to what the schedule leaves open; its own answers where not given. Or a trace of MetaSchedule's (`traced`), which replaces the schedule.
    strict : bool
        Whether decisions that this kernel does not leave open are an error; else they are passed over, and the kernel's `choices` say what was taken.

    Raises
    ------
    InternalError
        The group breaks this contract, or `decided` names what this kernel does not leave open.
    """
    if decided and TRACE in decided:
        return traced(group, str(decided[TRACE]))
    read, pool = _pooled(read_group(group))
    prologue = _prologue(read)
    anchors = [node for node in read.nodes if node.op in ANCHOR_OPS and node not in prologue]
    others = [node for node in read.nodes if node.op not in ANCHOR_OPS and node.op not in EPILOGUE_OPS and node not in prologue]
    if len(read.nodes) == 1 and (others or not _takes(read, read.nodes[0])):
        return legalized(group, variant)
    if others:
        raise InternalError(f"{others[0].op} ({others[0].name}) stands in a group of {len(read.nodes)} operators; it must be alone")
    if len(anchors) > 1:
        raise InternalError(f"a group has at most one anchor; found {', '.join(node.op for node in anchors)}")
    builder = Builder(read, variant, Choices(decided, strict), pool)
    if anchors:
        kernel = _ANCHORS[anchors[0].op](builder, anchors[0])
    else:
        builder.write_everywhere()
        kernel = builder.kernel("elementwise")
    if builder.choices.strange:
        raise InternalError(f"decisions on {', '.join(builder.choices.strange)} were made for a kernel that asks for {', '.join(builder.choices.asked)}")
    return kernel


def _pooled(group: Group) -> tuple[Group, Tensor | None]:
    """Split off a maximum on the words that a group ends with; the words are the output then."""
    *rest, last = group.nodes or (None,)
    if last is None or last.op != "relax.bnn.packed_max_pool2d" or group.outputs != (last,) or not rest or last.args[0] is not rest[-1]:
        return group, None
    if rest[-1].op != "relax.bnn.pack":
        raise InternalError(f"{last.name}: a maximum behind other operators takes the words of a pack, not those of {rest[-1].op}")
    return replace(group, nodes=tuple(rest), outputs=(rest[-1],)), last


def _prologue(group: Group) -> list[Tensor]:
    """Return the operators on the way from a parameter to the image that the group's contraction reads."""
    contraction = next((node for node in group.nodes if node.op in IMAGE_OPS), None)
    found = []
    x = contraction.args[0] if contraction is not None else None
    while isinstance(x, Tensor) and x.op in PROLOGUE_OPS:
        found.append(x)
        x = x.args[0]
    return found


def makes_image(call: relax.Call) -> bool:
    """Tell whether `call` may stand in front of a contraction that reads its result (N, H, W, C): a pad in space on an NHWC tensor, or an order of axes."""
    name = getattr(getattr(call, "op", None), "name", "")
    return name in PROLOGUE_OPS and len(static_shape(call.args[0])) == 4 and (name == "relax.permute_dims" or is_anchor(call))


def stages_image(call: relax.Call) -> bool:
    """Tell whether a contraction of `IMAGE_OPS` can make its image itself: the rows that it reads at a time are few enough bytes."""
    if getattr(call.op, "name", "") not in _STAGING_OPS:
        return False
    image, weights = (static_shape(arg) for arg in call.args[:2])
    dilation = int(call.attrs.dilation[0])
    taps = weights[0] if call.op.name == "relax.nn.conv2d" else weights[1]
    return fits_stage(image, np.dtype(dtype_of(call.args[0])).itemsize, (taps - 1) * dilation + 1)


def reads_any_order(call: relax.Call) -> bool:
    """Tell whether a contraction reads its image element by element, so that an order of axes in front costs nothing in its own group."""
    return getattr(call.op, "name", "") == "relax.bnn.signed_sum_conv2d"


def is_anchor(call: relax.Call) -> bool:
    """Tell whether `call` is an operator of `ANCHOR_OPS` in the form that its schedule takes; any other must stand in a group of its own."""
    if getattr(call.op, "name", "") not in ANCHOR_OPS:
        return False
    tensors = [arg for arg in call.args if isinstance(arg, relax.Var | GenericConst)]
    args = tuple(Tensor(f"arg{i}", static_shape(arg), dtype_of(arg)) for i, arg in enumerate(tensors))
    constants = frozenset(t for t, arg in zip(args, tensors, strict=True) if isinstance(arg, GenericConst))
    node = Tensor("anchor", static_shape(call), dtype_of(call), call.op.name, args, call)
    return _takes(Group(args, constants, (node,), (node,), {}), node)


def _takes(group: Group, node: Tensor) -> bool:
    """Tell whether a single operator is of the form that its schedule takes; where not, Relax's legalization does."""
    if node.op == "relax.nn.conv2d" or node.op.startswith(("relax.bnn.packed_conv2d", "relax.bnn.packed_dense", "relax.bnn.plane_", "relax.bnn.sign")):
        return group.is_constant(node.args[1])
    if node.op in ("relax.bnn.conv2d", "relax.bnn.dense"):
        return group.is_constant(node.args[1]) and not any(int(p) for p in getattr(node.attrs, "padding", ()))
    if node.op == "relax.nn.pad":
        return movement.pads_space_only(node)
    if node.op == "relax.mean":
        return windows.is_global(node)
    if node.op == "relax.matmul":
        return len(node.shape) == 2 and group.is_constant(node.args[1])
    if node.op in ("relax.nn.max_pool2d", "relax.nn.avg_pool2d"):
        return str(node.attrs.layout) == "NHWC"
    return True
