"""Groups of channels: which slices of a net's tensors belong to one filter or unit.

A channel is what one filter of a convolution, one row of a linear layer or one column of an embedding
makes. Taking it out for good means its row, its bias, its batch-norm entries, and the slice of every layer
that reads it. Where values are added up, as in a residual stream, channels of several layers go together.

A narrower input of a residual block is padded with zero channels (option A of He 2016), so a channel
of an early stage is the same number as one in the middle of every later stage. It goes from all
stages or from none: a later stage's channel cannot be zero while the shortcut still adds an
earlier one's values to it. The reverse would be possible, but the shortcut would have to become a
list of places; this way what is left is again a run between two runs of zero channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import sources, zoo
from engine.net.channels.parts import Group, Pad, Part, narrowing
from engine.net.channels.rules import RULES
from engine.net.channels.trace import FIXED, Ids, Trace, Where, tensors
from engine.net.input_quantizer import VERBS
from engine.types import Arch, Bundle, SlimscopeError


def groups(bundle: Bundle) -> dict[str, Group]:
    """All groups of channels that can be removed, by name, in the order of the net.

    What enters the net and what leaves it stays, so the classifier's outputs are in no group.
    Thin layers of a split are layers like any other: their group is `fc1.0`. Raises SlimscopeError
    for recurrent nets, for weights without a known architecture, and with the reason where no channel can go.

    >>> {name: group.channels for name, group in groups(zoo.initial("lenet-5")).items()}
    {'conv1': 20, 'conv2': 50, 'fc1': 500}
    """
    return dict(_traced(bundle.arch.key)[0])


def pads_of(bundle: Bundle) -> Mapping[str, tuple[int, int]]:
    """Block with a padded shortcut -> zero channels before and after its input's own."""
    return _traced(bundle.arch.key)[1]


# ---------------------------------------------------------------- from a trace


@remembered
def _traced(key: str) -> tuple[Mapping[str, Group], Mapping[str, tuple[int, int]]]:
    arch = Arch.from_key(key)
    # Rounding what enters or leaves a layer moves no channel, and zero stays zero on every grid.
    edits = tuple(edit for edit in arch.edits if edit[0] not in VERBS)
    plain = Arch(arch.name, edits, arch.config)
    net = zoo.skeleton(plain).eval()
    for name, module in net.named_modules():
        if isinstance(module, nn.RNNBase):
            raise SlimscopeError(
                f"layer {name!r} is recurrent: its units feed back into themselves and can't be removed"
            )
    with user_errors.own_errors(f"the channels of {arch.title} can't be followed"):
        trace = Trace(net, sources.inputs(arch), RULES, (*arch.ties, *arch.ties.values()))
    pads = {block: (len(before), len(after)) for block, (before, after) in trace.pads.items()}
    groups = found(trace)
    if arch.source == "user":
        groups = _checked(groups, pads, plain, trace)
    if not groups and (reasons := _reasons(trace, arch)):
        raise SlimscopeError(f"{arch.title} has no channels that can be removed: {reasons[0]}")
    return groups, pads


def _checked(
    groups: dict[str, Group], pads: Mapping[str, tuple[int, int]], arch: Arch, trace: Trace
) -> dict[str, Group]:
    """The groups without whose first channels the net still runs: its code may hold sizes as numbers."""
    shapes = {name: tensor.shape for name, tensor in trace.net.state_dict().items()}

    def error(names: Iterable[str]) -> str:
        kept = {name: range(1, groups[name].channels) for name in names if groups[name].channels > 1}
        return _fails(arch.edit("narrow", **narrowing(groups, kept, pads, shapes)), trace)

    if not error(groups):
        return groups
    wrong = {name: why for name in groups if (why := error([name]))}
    trace.reasons += [f"{name} can't lose a channel: {why}" for name, why in wrong.items()]
    return {name: group for name, group in groups.items() if name not in wrong}


def _fails(arch: Arch, trace: Trace) -> str:
    """Why a net does not run on inputs without memory, or gives less than the traced one."""
    try:
        answers = zoo.skeleton(arch).eval()(trace.inputs)
    except Exception as error:  # whatever a stranger's code may raise
        return user_errors.where(error)
    shapes = [tensor.shape for tensor in tensors(answers)]
    return "" if shapes == trace.answers else "its answers have another shape then"


def _reasons(trace: Trace, arch: Arch) -> list[str]:
    tied = [f"{a!r} and {b!r} are one tensor: its channels can't be removed" for a, b in arch.ties.items()]
    return tied + trace.reasons


def found(trace: Trace) -> dict[str, Group]:
    """Channels with the same slices in the same tensors make up one group.

    Where one layer sends some of its channels elsewhere than the others, the larger group can be removed.
    """
    _pin_doubles(trace)
    slices: dict[int, dict[Where, int]] = {}
    for where, ids in trace.notes.items():
        for place, channel in enumerate(ids):
            slices.setdefault(trace.root(channel), {})[where] = place * where.block
    alike: dict[tuple[Where, ...], list[int]] = {}
    for root, starts in slices.items():
        if root != FIXED:
            alike.setdefault(tuple(starts), []).append(root)
    named: dict[str, Group] = {}
    for axes, roots in alike.items():
        group = _group(trace, axes, roots, slices)
        if group.name not in named or named[group.name].channels < group.channels:
            named[group.name] = group
    return named


def _pin_doubles(trace: Trace) -> None:
    """A channel that lies twice in one tensor stays: its places there are no run."""
    for where, ids in trace.notes.items():
        counts = Counter(trace.root(channel) for channel in ids)
        for root, count in counts.items():
            if count > 1 and root != FIXED:
                trace.reasons.append(f"a channel lies twice in {where.param}")
                trace.join((FIXED,), (root,))


def _group(
    trace: Trace, axes: Sequence[Where], roots: Sequence[int], slices: Mapping[int, Mapping[Where, int]]
) -> Group:
    parts: dict[str, list[Part]] = {"makes": [], "reads": []}
    for where in axes:
        at = tuple(slices[root][where] for root in roots)
        parts[where.role].append(Part(where.param, where.axis, where.block, at))
    normal = {p.param.rpartition(".")[0] for p in parts["makes"] if p.param.endswith(".running_mean")}
    layers = dict.fromkeys(p.param.rpartition(".")[0] for p in parts["makes"])
    labels = tuple(label for label in layers if label not in normal)
    number = {root: channel for channel, root in enumerate(roots)}

    def mine(ids: Ids) -> frozenset[int]:
        return frozenset(number[trace.root(i)] for i in ids if trace.root(i) in number)

    pads = [Pad(block, mine(before), mine(after)) for block, (before, after) in trace.pads.items()]
    return Group(
        labels[0],
        len(roots),
        labels,
        tuple(parts["makes"]),
        tuple(parts["reads"]),
        tuple(pad for pad in pads if pad.before or pad.after),
        any(trace.root(i) in number for i in trace.summed),
    )
