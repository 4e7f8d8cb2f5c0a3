"""ONNX files in ONNX Runtime, on one thread: sessions, answers, and the graph that it really runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from engine.data import user_errors
from engine.file.onnx_file.traced import INPUT

# Operators that multiply codes of 8 bits; all others with floats as outputs work on floats.
INTEGER = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger")
BETWEEN = ("QuantizeLinear", "DequantizeLinear")


def session(data: bytes, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """A file, ready to run; the graph that the runtime made of it is written where that is asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def answer(run: onnxruntime.InferenceSession, inputs: Tensor) -> Tensor:
    """What a file gives for a batch (n, ...)."""
    return torch.from_numpy(run.run(None, {INPUT: inputs.numpy()})[0])


def optimized(data: bytes) -> onnx.ModelProto:
    """The graph that ONNX Runtime runs on this machine, after all of its rewriting."""
    with tempfile.TemporaryDirectory() as folder, user_errors.own_errors("ONNX Runtime refuses the file"):
        path = Path(folder) / "optimized.onnx"
        session(data, path)
        return onnx.load(path)
