from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node


@pytest.mark.parametrize("domain, op", [("com.microsoft", "FusedConv"), ("ai.onnx.ml", "Normalizer"), ("mine", "Quant")])
def test_another_domain_is_refused_and_the_known_quantizers_listed(domain: str, op: str) -> None:
    with pytest.raises(
        UnsupportedOperator, match=rf"{domain}.{op} node 'odd' .* is of the domain '{domain}'.*BipolarQuant.*MultiThreshold"
    ):
        import_onnx(make_model([node(op, ["x"], ["y"], "odd", domain=domain)], domains=(domain,)))


def test_an_unknown_operator_of_a_quantizer_domain_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(UnsupportedOperator, match="Im2Col node 'odd' .*of that domain BipolarQuant"):
        import_onnx(make_model([node("Im2Col", ["x"], ["y"], "odd", domain="qonnx.custom_op.general")]))


def test_an_operator_that_onnx_does_not_have_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="Swishify node 'odd' .*ONNX has no operator 'Swishify'"):
        import_onnx(make_model([node("Swishify", ["x"], ["y"], "odd")]))


def test_an_operator_newer_than_the_opset_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="opset 9, which the model imports, has no operator 'GreaterOrEqual'"):
        import_onnx(make_model([node("GreaterOrEqual", ["x", "x"], ["b"]), node("Cast", ["b"], ["y"], to=1)], opset=9))


def test_an_operator_removed_from_the_opset_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="opset 17"):
        import_onnx(make_model([node("Upsample", ["x", "s"], ["y"], "up")], (1, 1, 2, 2), {"s": np.ones(4, np.float32)}))


def test_the_domain_ai_onnx_is_the_standard_one() -> None:
    model = make_model([node("Relu", ["x"], ["y"], domain="ai.onnx")])
    model.opset_import[0].domain = "ai.onnx"
    imported = import_onnx(model)
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_the_reference_has_no_weights_that_nothing_reads() -> None:
    model = make_model(
        [node("Quant", ["x", "s", "z", "b"], ["y"], domain="onnx.brevitas")],
        weights={"s": np.float32(1), "z": np.float32(0), "b": np.float32(4), "dead": np.ones(3)},
    )
    reference = import_onnx(model).reference.graph
    read = {name for n in reference.node for name in n.input}
    assert {t.name for t in reference.initializer} <= read


def test_the_reference_is_not_folded() -> None:
    nodes = [node("Sign", ["w"], ["s"]), node("Identity", ["s"], ["i"]), node("MatMul", ["x", "i"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"w": np.ones((4, 2), np.float32)}))
    assert [n.op_type for n in imported.reference.graph.node] == ["Sign", "Identity", "MatMul"]
    assert [n.op_type for n in imported.folded.graph.node] == ["MatMul"]


def test_finn_s_tensor_annotations_do_no_harm() -> None:
    weights = {"t": np.zeros((1, 1), np.float32), "w": np.ones((4, 2), np.float32)}
    threshold = node("MultiThreshold", ["x", "t"], ["m"], domain="finn.custom_op.general", out_dtype="BINARY")
    model = make_model([threshold, node("MatMul", ["m", "w"], ["y"])], weights=weights)
    for tensor in ("x", "m", "w", "gone"):
        annotation = model.graph.quantization_annotation.add(tensor_name=tensor)
        annotation.quant_parameter_tensor_names.add(key="finn_datatype", value="BINARY")
    imported = import_onnx(model)
    assert tensor_differences(imported, random_feeds(imported)) == []
