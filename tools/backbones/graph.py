"""Write an ONNX graph node by node: half-precision weights widened by Cast, stable names, equal bytes on every run."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Opset 20 is the first with Gelu; IR version 9 is the one that came with it.
OPSET = 20
IR_VERSION = 9


class GraphBuilder:
    """Collects nodes and initialisers in call order; every name is given or counted, so the bytes do not depend on the run."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, onnx.TensorProto] = {}
        self.weights_stored: list[onnx.NodeProto] = []

    def weight(self, name: str, values: np.ndarray) -> str:
        """A matrix stored as float16 and widened to float32 by a Cast, which a runtime folds at load.

        Raises OverflowError when a value does not fit float16.
        """
        stored = self.half(f"{name}.float16", values)
        self.weights_stored.append(helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
        return name

    def half(self, name: str, values: np.ndarray) -> str:
        """A float16 initialiser, for nodes that take it as it is; errors as for `weight`."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, dtype=np.float32).astype(np.float16)
        if not np.isfinite(stored).all():
            raise OverflowError(f"{name} does not fit float16")
        return self._initialiser(name, stored)

    def vector(self, name: str, values: np.ndarray) -> str:
        """A bias, scale or other small array kept in float32: it costs few bytes and no rounding."""
        return self._initialiser(name, np.ascontiguousarray(values, dtype=np.float32))

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant, shared between the nodes that use the same one."""
        name = "integers_" + "_".join(str(value) for value in values)
        return self._initialiser(name, np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A float32 constant without dimensions, shared like `integers`."""
        return self._initialiser(f"scalar_{value!r}", np.array(value, dtype=np.float32))

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        """Append one node, named after its output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self, inputs: dict[str, tuple], outputs: dict[str, tuple], metadata: dict[str, str]) -> bytes:
        """The checked, serialised model; `inputs` and `outputs` map a name to (element type, shape).

        Raises onnx.checker.ValidationError when the graph is not valid.
        """

        def described(values: dict[str, tuple]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

        graph = helper.make_graph(
            self.weights_stored + self.nodes, self.name, described(inputs), described(outputs), list(self.initialisers.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="headstart")
        model.ir_version = IR_VERSION
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def _initialiser(self, name: str, values: np.ndarray) -> str:
        tensor = numpy_helper.from_array(values, name)
        known = self.initialisers.setdefault(name, tensor)
        if known is not tensor and known != tensor:
            raise ValueError(f"two different initialisers are called {name}")
        return name
