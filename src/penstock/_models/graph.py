"""Reading and changing an ONNX graph: its ports, normalisation in front of its input, quantised weights folded."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from penstock._models.normalise import constants
from penstock._models.ports import Dim, Port, Ports
from penstock._spec import InputSpec
from penstock._spec.fields import CHANNELS
from penstock.errors import MissingDependency, ModelError, SpecError

OPSETS = range(7, 23)
"""Opsets whose Cast, Transpose, Sub and Div mean what `with_uint8_input` needs (broadcasting came with 7)."""
_PREFIX = "penstock_"
_FOLDED_DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32)


def available() -> bool:
    """Return whether the package `onnx` is installed; without it graphs are run as they are."""
    return importlib.util.find_spec("onnx") is not None


def read_ports(model_bytes: bytes) -> Ports:
    """Return what the model wants and gives; weights that old files list as inputs are left out.

    Raises ModelError where the bytes are no ONNX model, MissingDependency without the package `onnx`.
    """
    return _ports(_parse(model_bytes).graph)


def with_uint8_input(model_bytes: bytes, spec: InputSpec) -> bytes:
    """Return the model with a new input: uint8 (N, H, W, C), normalised inside the graph as `spec` says.

    Transpose (for a model with layout NCHW), Cast to float32, Sub mean, Div std, Cast to the model's dtype: the answers
    are those of the same steps in numpy. Raises ModelError where that cannot be done.
    """
    model = _parse(model_bytes)
    _check_opset(model)
    old = _ports(model.graph).only_input("the model")
    if old.shape is None or len(old.shape) != 4:
        raise ModelError(f"normalisation cannot go into the graph: its input is {old}, not an image of rank 4.")
    nodes = _normalising_nodes(spec, old, _unused_prefix(model.graph))
    fresh = _uint8_input(nodes[0].input[0], spec, old.shape)
    _replace_input(model.graph, old.name, fresh)
    _prepend(model.graph, nodes)
    return bytes(model.SerializeToString())


def fold_weights(model_bytes: bytes) -> bytes:
    """Return the model with every DequantizeLinear of constant weights computed: float32 weights in its place.

    What depends on an input stays. Weights kept in files beside the model stay too.
    """
    model = _parse(model_bytes)
    constant = {weight.name: weight for weight in model.graph.initializer if not weight.external_data}
    kept = []
    for node in model.graph.node:
        if (folded := _folded(node, constant)) is None:
            kept.append(node)
        else:
            model.graph.initializer.append(folded)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_unused(model.graph)
    return bytes(model.SerializeToString())


def quantised_nodes(model_bytes: bytes) -> int:
    """Return how many DequantizeLinear nodes the main graph holds."""
    return sum(node.op_type == "DequantizeLinear" for node in _parse(model_bytes).graph.node)


def _parse(model_bytes: bytes) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency.of("onnx", "onnx", "changing a model's graph") from error
    try:
        model = onnx.load_model_from_string(model_bytes)
    except Exception as error:
        raise ModelError(f"these {len(model_bytes)} bytes are no ONNX model: {error}") from error
    if not model.graph.node:
        raise ModelError(f"these {len(model_bytes)} bytes hold an ONNX model without any operator.")
    return model


def _ports(graph: Any) -> Ports:
    weights = {weight.name for weight in graph.initializer}
    inputs = tuple(_port(value) for value in graph.input if value.name not in weights)
    return Ports(inputs, tuple(_port(value) for value in graph.output))


def _port(value: Any) -> Port:
    import onnx

    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Port(value.name, None, str(value.type.WhichOneof("value")))
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    if not kind.HasField("shape"):
        return Port(value.name, None, dtype)
    return Port(value.name, tuple(_dim(dim) for dim in kind.shape.dim), dtype)


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        # Some exporters write a free batch as 0 or -1.
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return str(dim.dim_param) or None


def _check_opset(model: Any) -> None:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version not in OPSETS:
        raise ModelError(
            f"normalisation cannot go into a graph of opset {version}, only of {OPSETS[0]} to {OPSETS[-1]}."
        )


def _unused_prefix(graph: Any) -> str:
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    prefix = _PREFIX
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _normalising_nodes(spec: InputSpec, old: Port, prefix: str) -> list[Any]:
    """Return the nodes from `prefix`input to the old input's name."""
    import onnx

    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(old.dtype))
    steps: list[tuple[str, dict[str, Any], Any]] = []
    if spec.layout == "NCHW":  # first, while a value is one byte
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}, None))
    steps.append(("Cast", {"to": onnx.TensorProto.FLOAT}, None))
    steps.extend((op, {}, value) for op, value in constants(spec))
    steps.append(("Cast", {"to": dtype}, None))
    nodes, name = [], f"{prefix}input"
    for place, (op, attributes, value) in enumerate(steps):
        inputs, out = [name], f"{prefix}{place}" if place < len(steps) - 1 else old.name
        if value is not None:
            # A Constant node, not an initializer: files of IR 3 must list those among the inputs.
            inputs.append(f"{prefix}value_{place}")
            tensor = onnx.numpy_helper.from_array(value, f"{prefix}tensor_{place}")
            nodes.append(onnx.helper.make_node("Constant", [], [inputs[1]], value=tensor))
        nodes.append(onnx.helper.make_node(op, inputs, [out], **attributes))
        name = out
    return nodes


def _uint8_input(name: str, spec: InputSpec, shape: tuple[Dim, ...]) -> Any:
    import onnx

    batch, *rest = shape
    height, width, channels = (rest[1], rest[2], rest[0]) if spec.layout == "NCHW" else rest
    if isinstance(channels, int) and channels != CHANNELS[spec.color]:
        raise SpecError(
            f"color={spec.color!r}, layout={spec.layout!r} means {CHANNELS[spec.color]} channels; the model takes "
            f"{channels} (input shape {shape}). Correct color or layout."
        )
    # The number of channels is always declared, so that a mean of three never widens a gray picture.
    dims = [batch, height, width, CHANNELS[spec.color]]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, dims)


def _replace_input(graph: Any, old_name: str, fresh: Any) -> None:
    place = next(place for place, value in enumerate(graph.input) if value.name == old_name)
    graph.input[place].CopyFrom(fresh)


def _prepend(graph: Any, nodes: list[Any]) -> None:
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])


def _folded(node: Any, constant: dict[str, Any]) -> Any | None:
    """Return the float32 weights of a DequantizeLinear of constants, or None where it must stay."""
    import onnx

    if node.op_type != "DequantizeLinear" or node.domain not in ("", "ai.onnx"):
        return None
    if any(name not in constant for name in node.input if name):
        return None
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if attributes.keys() - {"axis"}:  # blocks and chosen output types (opset 21 on) stay
        return None
    weights, scale, *zero = (onnx.numpy_helper.to_array(constant[name]) for name in node.input if name)
    if weights.dtype not in _FOLDED_DTYPES or scale.dtype != np.float32 or scale.ndim > 1:
        return None
    axis = attributes["axis"].i if "axis" in attributes else 1
    values = _dequantised(weights, scale, zero[0] if zero else None, axis)
    return onnx.numpy_helper.from_array(values, node.output[0])


def _dequantised(weights: Any, scale: Any, zero: Any | None, axis: int) -> Any:
    # The definition (ONNX operator DequantizeLinear): (x - zero_point) * scale, per tensor or along one axis.
    along = [1] * weights.ndim
    if scale.ndim == 1 and weights.ndim:
        along[axis] = -1
    shift = np.zeros((), np.int64) if zero is None else zero.astype(np.int64).reshape(along if zero.ndim else ())
    centred = (weights.astype(np.int64) - shift).astype(np.float32)
    return np.asarray(centred * scale.reshape(along if scale.ndim else ()), dtype=np.float32)


def _drop_unused(graph: Any) -> None:
    used = {value.name for value in graph.output} | _names_used(graph)
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    names = {weight.name for weight in kept}
    inputs = [value for value in graph.input if value.name in used or value.name in names]
    del graph.input[:]
    graph.input.extend(inputs)


def _names_used(graph: Any) -> set[str]:
    names: set[str] = set()
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _names_used(inner)
    return names
