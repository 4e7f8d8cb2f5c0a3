"""What a model multiplies, found by running it once: calls of layers, and products in its own code.

A layer of a known kind is counted by its formula, and nothing in it is looked at: fused kernels show no
single products. Outside of such layers every operation is seen: a product of activations, or with the
weights of a known layer (a tied classifier), is counted as torch's own FlopCounterMode counts it; a
product with a bare parameter is refused, because nobody knows what a technique would do to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from engine.data import user_errors

Shape = tuple[int, ...]
KindOf = Callable[[nn.Module], Callable[[Any, Sequence[Shape], Sequence[Shape]], Mapping[str, int]] | None]
BETWEEN = ""  # stands for the name of a weight where two activations are multiplied
ITSELF = "model"  # the label of what the model's own forward multiplies

aten = torch.ops.aten
# What may happen to a bare matrix without a multiply-add: it is looked at, added, or rows of it are read.
HARMLESS = {
    *(aten.add, aten.add_, aten.sub, aten.sub_, aten.rsub, aten.embedding, aten.index, aten.index_select),
    *(aten.gather, aten.view, aten._unsafe_view, aten.reshape, aten.t, aten.transpose, aten.permute),
    *(aten.slice, aten.select, aten.narrow, aten.expand, aten.unsqueeze, aten.squeeze, aten.alias),
    *(aten.detach, aten.split, aten.split_with_sizes, aten.chunk, aten.unbind, aten.repeat, aten.cat),
    *(aten.clone, aten._to_copy, aten.copy_, aten.stack, aten.as_strided, aten.lift_fresh),
}
# Products that torch's own table leaves out: multiply-adds of each from its arguments.
VECTORS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda matrix, vector: matrix.numel(),
    aten.addmv: lambda bias, matrix, vector, **rest: matrix.numel(),
    aten.dot: lambda one, other: one.numel(),
    aten.vdot: lambda one, other: one.numel(),
    aten.addbmm: lambda bias, one, other, **rest: one.numel() * other.shape[-1],
}
# Whole networks or sums of products in one operation, whose number nobody says.
OPAQUE = {
    *(aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu, aten.mkldnn_rnn_layer, aten._trilinear),
    *(aten._cdist_forward, aten._fft_r2c, aten._fft_c2c, aten._fft_c2r, aten._transformer_encoder_layer_fwd),
    *(aten._native_multi_head_attention, aten._scaled_dot_product_flash_attention_for_cpu),
}


@dataclass
class Use:
    """What one layer multiplied: shapes of its first call, weight (full name) -> MACs of all calls."""

    layer: str
    type: str
    input: Shape = ()
    output: Shape = ()
    macs: dict[str, int] = field(default_factory=dict)
    values: int = 0  # numbers that it gave

    def add(self, macs: Mapping[str, int]) -> None:
        for name, more in macs.items():
            self.macs[name] = self.macs.get(name, 0) + more


def watched(
    model: nn.Module, inputs: Sequence[Tensor], kind_of: KindOf
) -> tuple[tuple[Use, ...], tuple[str, ...]]:
    """Run the model once in eval mode: the layers that have weights or multiply, and what can't be said.

    Raises UserError where the model fails on these inputs.

    >>> class Product(nn.Module):
    ...     def forward(self, x):
    ...         return x @ x
    >>> watched(Product(), [torch.ones(3, 3)], lambda module: None)[0][0].macs
    {'': 27}
    """
    watch = _Watch(model, kind_of)
    with (
        _in_eval_mode(model),
        watch.hooked(),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        sdpa_kernel(SDPBackend.MATH),  # a fused attention shows no products
        user_errors.own_errors("the shapes of the layers can't be found"),
        watch,
    ):
        model(*inputs)
    used = tuple(use for use in watch.uses.values() if use.macs)
    return used, tuple(dict.fromkeys(watch.refusals))


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Batch-norm counts nothing then; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _shapes(value: Any) -> list[Shape]:
    """Shapes of all tensors in what a module takes or gives, in order."""
    return [tuple(tensor.shape) for tensor in _tensors(value)]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, list | tuple) else []


def _storage(tensor: Tensor) -> int:
    where: int = tensor.untyped_storage()._cdata
    return where


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the calls of a model's modules by hooks, and operations outside of known layers by dispatch."""

    def __init__(self, model: nn.Module, kind_of: KindOf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind_of = kind_of
        self.uses: dict[str, Use] = {}
        self.refusals: list[str] = []
        self.open: list[nn.Module] = []  # modules that are being called
        self.inside = 0  # how many of them are known layers, or in one
        self.labels = {module: name for name, module in model.named_modules()}
        # Where a tensor has several names, the first: that is how a bundle stores it.
        self.names = {id(tensor): name for name, tensor in reversed([*model.named_parameters()])}
        self.owners = {
            _storage(tensor): (module, name)
            for module in reversed([*model.modules()])
            for name, tensor in module._parameters.items()
            if tensor is not None
        }

    # -------- calls

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """With hooks on every module; they also keep torch from its fused encoder layers."""
        handles = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in self.labels]
        handles += [module.register_forward_hook(self._leave, with_kwargs=True) for module in self.labels]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.open.append(module)
        if self.inside or self.kind_of(module):
            self.inside += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> None:
        self.open.pop()
        if not self.inside:
            return
        self.inside -= 1
        if self.inside == 0:
            self._count_call(module, _bound(module, args, kwargs), _shapes(given))

    def _count_call(self, module: nn.Module, inputs: list[Shape], outputs: list[Shape]) -> None:
        formula = self.kind_of(module)
        assert formula is not None
        macs = formula(module, inputs, outputs)
        use = self._use(module)
        if not use.output:
            use.input, use.output = inputs[0], outputs[0]
        use.values += torch.Size(outputs[0]).numel()
        use.add({self._full(module, name): more for name, more in macs.items()})

    def _use(self, module: nn.Module) -> Use:
        label = self.labels[module] or ITSELF
        return self.uses.setdefault(label, Use(label, type(module).__name__))

    def _full(self, module: nn.Module, name: str) -> str:
        """The full name of a module's weight, the first where it has several."""
        if name == BETWEEN:
            return BETWEEN
        *inner, leaf = name.split(".")
        tensor = getattr(module.get_submodule(".".join(inner)), leaf)
        return self.names.get(id(tensor), f"{self.labels[module]}.{name}".lstrip("."))

    # -------- operations outside of known layers

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: or torch imports its compiler, seconds and 45 MB, to keep it from compiling these calls."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        if not isinstance(func, torch._ops.OpOverload):
            self._refuse(self.open[-1], f"runs {func} as one operation")
            return func(*args, **kwargs)
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        given = func(*args, **kwargs)
        if self.open:  # not what the input is made from
            self._count(packet, args, kwargs, given)
        return given

    def _count(self, packet: Any, args: Any, kwargs: Any, given: Any) -> None:
        owned = [self.owners[s] for t in _tensors([*args, kwargs]) if (s := _storage(t)) in self.owners]
        bare = [(module, name) for module, name in owned if self.kind_of(module) is None]
        if packet in flop_registry or packet in VECTORS:
            for module, name in bare:
                self._refuse(module, f"multiplies with {name!r}, a parameter of its own")
            self._add(owned, _macs(packet, args, kwargs, given), given)
        elif packet in OPAQUE:
            self._refuse(self.open[-1], f"runs {packet.__name__} as one operation")
        elif packet not in HARMLESS:
            for module, name in bare:
                if getattr(module, name).dim() >= 2:
                    self._refuse(module, f"uses {name!r}, a matrix of its own, in {packet.__name__}")

    def _add(self, owned: list[tuple[nn.Module, str]], macs: int, given: Any) -> None:
        """To the layer whose weight it is, or to the module whose code multiplies."""
        if owned:
            module, name = owned[0]
            self._use(module).add({self._full(module, name): macs})
        else:
            module = self.open[-1]
            self._use(module).add({BETWEEN: macs})
        use = self._use(module)
        use.values += sum(tensor.numel() for tensor in _tensors(given))
        use.output = use.output or _shapes(given)[0]

    def _refuse(self, module: nn.Module, why: str) -> None:
        label = self.labels[module] or ITSELF
        self.refusals.append(
            f"the multiply-adds of {label!r} ({type(module).__name__}) are not known: it is of no kind that "
            f"slimscope counts, and {why}"
        )


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Shape]:
    """Shapes of the tensors that a call was given, in the order of `forward`'s own parameters."""
    if not kwargs:
        return _shapes(args)
    return _shapes(list(inspect.signature(module.forward).bind(*args, **kwargs).arguments.values()))


def _macs(packet: Any, args: Any, kwargs: Any, given: Any) -> int:
    if packet in VECTORS:
        return VECTORS[packet](*args, **kwargs)
    return int(flop_registry[packet](*args, **kwargs, out_val=given)) // 2
