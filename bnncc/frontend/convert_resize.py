"""Resize and Upsample of images, and the moves between depth and space."""

from __future__ import annotations

from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, converts

_METHODS = {"nearest": "nearest_neighbor", "linear": "linear", "cubic": "cubic"}
_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
_ROUNDINGS = {"round_prefer_floor": "round_prefer_floor", "round_prefer_ceil": "round_prefer_ceil", "floor": "floor", "ceil": "ceil"}


@converts("Upsample")
def convert_upsample(c: Conversion) -> relax.Expr:
    """Resize of opset 9: asymmetric coordinates, rounded down."""
    scales = c.attributes.get("scales") or c.constant(1, "scales").reshape(-1).tolist()
    return _resize(c, _sizes(c, scales), "asymmetric", "floor")


@converts("Resize")
def convert_resize(c: Conversion) -> relax.Expr:
    """Enlarge or shrink the last two axes."""
    if c.opset == 10:
        return _resize(c, _sizes(c, c.constant(1, "scales").reshape(-1).tolist()), "asymmetric", "floor")
    if (
        c.attributes.get("axes") is not None
        or c.attributes.get("antialias", 0)
        or c.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise c.unsupported("axes, antialias and keep_aspect_ratio_policy are not supported. Give sizes or scales for all axes.")
    sizes = c.constant(3, "sizes").reshape(-1) if c.get(3) is not None else []
    if len(sizes):
        wanted = [int(v) for v in sizes]
    else:
        wanted = _sizes(c, c.constant(2, "scales").reshape(-1).tolist())
    return _resize(
        c, wanted, c.attributes.get("coordinate_transformation_mode", "half_pixel"), c.attributes.get("nearest_mode", "round_prefer_floor")
    )


def _sizes(c: Conversion, scales: list[float]) -> list[int]:
    shape = c.shape(c[0])
    sizes = [int(d * s) for d, s in zip(shape, scales)]
    if len(scales) != len(shape) or any(size != d * s for size, d, s in zip(sizes, shape, scales)):
        raise c.unsupported(
            f"its scales {scales} do not give whole sizes for an input of shape {list(shape)}; only such are supported. Export the model "
            "with "
            "sizes in place of scales."
        )
    return sizes


def _resize(c: Conversion, sizes: list[int], coordinates: str, rounding: str) -> relax.Expr:
    shape, mode = c.shape(c[0]), c.attributes.get("mode", "nearest")
    if len(shape) != 4 or tuple(sizes[:2]) != shape[:2]:
        raise c.unsupported(
            f"it resizes {list(shape)} to {sizes}; only the last two axes of four can change. Export the model with images in NCHW."
        )
    if mode not in _METHODS or coordinates not in _COORDINATES or rounding not in _ROUNDINGS:
        raise c.unsupported(
            f"mode {mode!r} with coordinates {coordinates!r} and rounding {rounding!r} is not supported; modes {', '.join(_METHODS)}, "
            "coordinates "
            f"{', '.join(_COORDINATES)} and roundings {', '.join(_ROUNDINGS)} are."
        )
    return R.image.resize2d(
        c[0],
        (sizes[2], sizes[3]),
        layout="NCHW",
        method=_METHODS[mode],
        coordinate_transformation_mode=coordinates,
        rounding_method=_ROUNDINGS[rounding] if mode == "nearest" else "",
        cubic_alpha=c.attributes.get("cubic_coeff_a", -0.75),
        cubic_exclude=c.attributes.get("exclude_outside", 0),
    )


@converts("DepthToSpace")
def convert_depth_to_space(c: Conversion) -> relax.Expr:
    """Blocks of channels become squares of pixels."""
    n, channels, height, width = c.shape(c[0])
    b = c.attributes["blocksize"]
    if c.attributes.get("mode", "DCR") == "DCR":
        parts, order = (n, b, b, channels // (b * b), height, width), (0, 3, 4, 1, 5, 2)
    else:
        parts, order = (n, channels // (b * b), b, b, height, width), (0, 1, 4, 2, 5, 3)
    x = c.emit(R.permute_dims(c.emit(R.reshape(c[0], parts)), order))
    return R.reshape(x, (n, channels // (b * b), height * b, width * b))


@converts("SpaceToDepth")
def convert_space_to_depth(c: Conversion) -> relax.Expr:
    """Squares of pixels become blocks of channels."""
    n, channels, height, width = c.shape(c[0])
    b = c.attributes["blocksize"]
    x = c.emit(R.reshape(c[0], (n, channels, height // b, b, width // b, b)))
    return R.reshape(c.emit(R.permute_dims(x, (0, 3, 5, 1, 2, 4))), (n, channels * b * b, height // b, width // b))
