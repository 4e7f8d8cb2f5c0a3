"""A torch model as an ONNX graph of its own numbers, in which rounding between layers is a pair of nodes."""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from engine.data import user_errors
from engine.net import zoo
from engine.net.surgery import InputQuantizer
from engine.tensor.affine import code_range
from engine.types import Bundle, SlimscopeError

OPSET = 17
INPUT, OUTPUT = "inputs", "logits"
MIDDLE = 128  # of the unsigned codes of a symmetric grid

# The exporter keeps its state in globals.
_ALONE = threading.Lock()


class _Coded(torch.autograd.Function):
    """Rounding to a grid; in a graph QuantizeLinear, Clip and DequantizeLinear with unsigned 8-bit codes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero: int, low: int, high: int) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: float, zero: int, low: int, high: int) -> Any:
        step = g.op("Constant", value_t=torch.tensor(scale, dtype=torch.float32))
        point = g.op("Constant", value_t=torch.tensor(zero, dtype=torch.uint8))
        ends = [g.op("Constant", value_t=torch.tensor(end, dtype=torch.uint8)) for end in (low, high)]
        codes = g.op("Clip", g.op("QuantizeLinear", x, step, point), *ends)
        return g.op("DequantizeLinear", codes, step, point).setType(x.type())


class _Codes(nn.Module):
    """An input quantizer whose grid is fixed and fits 8 bits."""

    def __init__(self, old: InputQuantizer) -> None:
        super().__init__()
        shift = MIDDLE if old.symmetric else 0
        low, high = code_range(old.bits, old.symmetric)
        self.scale, self.prune = float(old.scale), float(old.prune) if old.prunes else 0.0
        self.zero, self.low, self.high = (int(each) + shift for each in (old.zero, low, high))

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.prune if self.prune else x
        return _Coded.apply(x, self.scale, self.zero, self.low, self.high)  # type: ignore[no-any-return, no-untyped-call]


class _Rms(nn.Module):
    """Torch's RMSNorm as its parts: this version of ONNX has no such operation."""

    def __init__(self, old: nn.RMSNorm) -> None:
        super().__init__()
        self.weight = old.weight
        self.eps = torch.finfo(torch.float32).eps if old.eps is None else old.eps
        self.axes = tuple(range(-len(old.normalized_shape), 0))

    def forward(self, x: Tensor) -> Tensor:
        y = x / (x.square().mean(self.axes, keepdim=True) + self.eps).sqrt()
        return y if self.weight is None else y * self.weight


def _fits(quantizer: InputQuantizer) -> bool:
    if quantizer.dynamic or quantizer.bits > 8:
        return False
    return float(quantizer.zero) == round(float(quantizer.zero)) and float(quantizer.scale) > 0


def _quiet(*_: Any) -> None:
    """The exporter switches on a log that prints whole graphs where it fails; what failed is said without."""
    torch._C._jit_set_onnx_log_enabled(False)


def _prepared(bundle: Bundle, coded: bool) -> nn.Module:
    """A copy of the net; `coded` with quantizers as nodes, and with a bias in linear layers behind them."""
    net = zoo.fork(bundle).eval()
    net.register_forward_pre_hook(_quiet)
    for name, module in list(net.named_modules()):
        if type(module) is nn.RMSNorm and name:
            net.set_submodule(name, _Rms(module))
    for layer in list(net.modules()) if coded else ():
        given = getattr(layer, "output_quantizer", None)
        if isinstance(given, InputQuantizer) and _fits(given):
            layer.output_quantizer = _Codes(given)
        quantizer = getattr(layer, "input_quantizer", None)
        if isinstance(quantizer, InputQuantizer) and _fits(quantizer):
            layer.input_quantizer = _Codes(quantizer)
            if isinstance(layer, nn.Linear) and layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(layer.out_features))
    return net


def traced(bundle: Bundle, inputs: Tensor, coded: bool) -> onnx.ModelProto:
    """The graph of a bundle's net, for batches of any length; initializers have the names of its parameters.

    Raises SlimscopeError where ONNX has no such layer, and UserError, which is one, where torch's exporter
    does not know what the net does.
    """
    net, file = _prepared(bundle, coded), io.BytesIO()
    for name, module in net.named_modules():
        if getattr(module, "proj_size", 0):
            said = f"ONNX, whose LSTM has no projection: {name!r} has one"
            raise SlimscopeError(f"{bundle.arch.title} can't be written as {said}")
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    axes = {name: {0: "batch"} for name in (INPUT, OUTPUT)}
    # With gradients, attention runs as its parts, which the exporter knows.
    with _ALONE, warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # what it warns of is found by running the file
        with user_errors.own_errors(f"{bundle.arch.title} can't be written as ONNX"):
            # The other exporter needs one more package. Nothing is folded: weights are found by their names.
            torch.onnx.export(
                net,
                (inputs,),
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OPSET,
                do_constant_folding=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                dynamic_axes=axes,
                **names,
            )
    return onnx.load_from_string(file.getvalue())
