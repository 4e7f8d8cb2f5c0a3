"""Settings that many techniques have: their ranges once, and the sentence that each technique adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any

from engine.recipe.knobs import Choice, Layers, PerLayer, Slider, Toggle, When

NONE: Mapping[str, Any] = MappingProxyType({})  # no layer has a setting of its own


def per_layer(
    knob: Slider, label: str, help: str, when: tuple[When, ...] = (), added: bool = False
) -> PerLayer:
    """Layers with a value of their own in place of the knob's."""
    return PerLayer(knob=knob, unit=knob.unit, label=label, help=help, when=when, added=added)


def sparsity(help: str, *, label: str = "Sparsity", when: tuple[When, ...] = ()) -> Slider:
    """A share of weights from 0 to 0.999, finer towards the top."""
    unit = "share of weights removed"
    return Slider(
        low=0.0, high=0.999, scale="fine", unit=unit, percent=True, label=label, help=help, when=when
    )


def removed(what: str, help: str, high: float = 0.95) -> Slider:
    """A share of structures from 0 to `high`."""
    unit, label = f"share of {what} removed", f"{what.capitalize()} removed"
    return Slider(low=0.0, high=high, step=0.01, unit=unit, percent=True, label=label, help=help)


def kept_in_row(when: tuple[When, ...]) -> Slider:
    """N of N:M."""
    words = "How many of each M weights in a row of inputs stay."
    return Slider(low=1, high=16, whole=True, unit="weights kept", label="N", help=words, when=when)


def row(when: tuple[When, ...]) -> Slider:
    """M of N:M."""
    words = "Among how many neighbouring inputs N stay; layers whose inputs are no multiple are left."
    return Slider(low=2, high=32, whole=True, unit="weights in a row", label="M", help=words, when=when)


def allocation(
    what: str,
    layer: str,
    over_all: str,
    *,
    erk: bool = False,
    row: bool = False,
    when: tuple[When, ...] = (),
) -> Choice:
    """How a share is dealt out over the layers."""
    options = {"layer": layer, "global": over_all}
    if erk:
        options["erk"] = "small layers lose less, by the sum of their sides over its product (Evci 2020)"
    if row:
        options["row"] = "every output loses the same share of its weights (Wanda); single weights only"
    help = f"Where {what} compete for survival: inside their layer, or all against all."
    return Choice(label="Allocation", help=help, options=options, when=when)


def error_of(what: str, added: bool = False) -> Choice:
    """Whose error is kept small: that of the weights, or that of what the layer makes of its inputs."""
    options = {
        "weights": "the error of the weights: all count alike",
        "outputs": "the error of the outputs: as much as what enters the layer makes of it",
    }
    return Choice(label="Error", help=f"What {what} are to keep small.", options=options, added=added)


def epochs(help: str, high: int = 30, label: str = "Epochs") -> Slider:
    """How long a net is trained."""
    return Slider(low=1, high=high, whole=True, unit="epochs", label=label, help=help)


def learning_rate(help: str) -> Slider:
    """From 1e-4 to 0.1."""
    return Slider(low=1e-4, high=1e-1, scale="log", label="Learning rate", help=help)


def adam_rate(what: str = "the weights") -> Slider:
    """Of Adam under a one-cycle schedule."""
    return learning_rate(f"How far Adam moves {what} at most; it warms up, then falls to zero.")


def weight_decay() -> Slider:
    """None, or up to 0.01."""
    help = "How hard each step pulls all weights to zero (L2); most of the zoo was trained with 1e-4 or 5e-4."
    return Slider(low=0.0, high=1e-2, scale="log", label="Weight decay", help=help, advanced=True)


def samples(help: str, when: tuple[When, ...] = ()) -> Slider:
    """How many training samples derivatives are taken on."""
    unit = "training samples"
    return Slider(low=50, high=2000, step=50, whole=True, unit=unit, label="Samples", help=help, when=when)


def calibration(when: tuple[When, ...]) -> Slider:
    """How many training samples ranges of inputs are read from; 256 where a technique doesn't ask."""
    return Slider(
        low=16,
        high=4096,
        scale="log",
        whole=True,
        unit="training samples",
        label="Calibration samples",
        help="How many samples the ranges are read from: fixed ones of the training part, of your own data "
        "as well, with every class in its share.",
        when=when,
        advanced=True,
        added=True,
    )


def seed(help: str, when: tuple[When, ...] = (), added: bool = False) -> Slider:
    """From 0 to 9999."""
    return Slider(
        low=0, high=9999, whole=True, label="Seed", help=help, when=when, advanced=True, added=added
    )


def leave_out(help: str) -> Layers:
    """Layers that a technique passes by."""
    return Layers(unit="layers", label="Leave out", help=help)


def damping(more: str) -> Slider:
    """What is added to a Hessian's diagonal."""
    return Slider(
        low=0.001,
        high=1.0,
        scale="log",
        unit="of the mean diagonal",
        label="Damping",
        help=f"What is added to the Hessian's diagonal: the more, {more}.",
        advanced=True,
    )


def advanced(knob: Slider) -> Slider:
    """The same slider, folded away."""
    return replace(knob, advanced=True)


def redrawing(knob: Slider) -> Slider:
    """The same slider, which changes pictures that stay while others move."""
    return replace(knob, redraws=True)


def one_per(what: str, help: str) -> Choice:
    """Whether a layer has one scale, or step, or each of its outputs has one."""
    options = {"tensor": "one for the whole layer", "channel": "one for each output of the layer"}
    return Choice(label=f"One {what} per", help=help, options=options)


def learns_from(zoo: bool = False) -> Choice:
    """Whose answers a training that is no distillation of its own learns from."""
    options = {
        "none": "the labels alone",
        "original": "the labels, and the model before all compression: its teacher",
    }
    if zoo:
        options["zoo"] = "the labels, and as teachers that model and the zoo's other models of its task"
    help = "Whose answers the model is trained to give."
    return Choice(label="Learns from", help=help, options=options, added=True)


def grid_of(what: str, when: tuple[When, ...] = ()) -> Choice:
    """Whether weights that lie on a grid get another one, or stay on theirs."""
    options = {
        "new": f"a new one, {what}",
        "own": "the one that a layer's weights lie on already; a new one where they lie on none",
    }
    help = "Which step size and zero point a layer's weights begin with."
    return Choice(label="Grid", help=help, options=options, when=when, advanced=True, added=True)


def trained_bits(label: str, help: str, when: tuple[When, ...] = ()) -> Slider:
    """Widths that a model can be trained in."""
    return Slider(low=2, high=8, whole=True, unit="bits", label=label, help=help, when=when)


def teacher_share(when: tuple[When, ...] = (), added: bool = False) -> Slider:
    """How much of the loss is the teacher's."""
    return Slider(
        low=0.0,
        high=1.0,
        step=0.05,
        unit="share of the loss",
        percent=True,
        label="Teacher",
        help="0 learns from the labels alone, 1 from the teacher alone.",
        when=when,
        added=added,
    )


def temperature(when: tuple[When, ...] = (), added: bool = False) -> Slider:
    """From 0.5 to 20."""
    return Slider(
        low=0.5,
        high=20.0,
        step=0.5,
        label="Temperature",
        help="Softens the teacher's answers: the higher, the more they say about the wrong classes.",
        when=when,
        added=added,
    )


def scale_granularity(help: str, when: tuple[When, ...] = ()) -> Choice:
    """How many weights share a scale: those of a layer, of an output, or of a group."""
    options = {
        "tensor": "one scale for the whole layer",
        "channel": "one scale for each output of the layer",
        "group": "one scale for each run of weights inside an output",
    }
    return Choice(label="One scale per", help=help, options=options, when=when)


def group_size(when: tuple[When, ...] = ()) -> Slider:
    """How many weights are a group, where groups have scales."""
    return Slider(
        low=8,
        high=256,
        whole=True,
        step=8,
        unit="weights",
        label="Group size",
        help="Consecutive weights that share one scale.",
        when=(*when, ("granularity", ("group",))),
    )


def fitted_range(help: str) -> Choice:
    """How a grid is found on which codes are chosen afterwards."""
    options = {
        "minmax": "from the smallest to the largest: nothing is clipped",
        "mse": "the clip with the least squared error, of 100 that are tried",
    }
    return Choice(label="Range", help=help, options=options)


def precision(added: bool = False) -> Choice:
    """In how many bits a model multiplies while it trains."""
    return Choice(
        label="Precision",
        help="In how many bits the model multiplies while it trains; its weights are kept in 32.",
        options={
            "float32": "32 bits",
            "bfloat16": "16 bits: convolutions train faster where the processor knows the format",
        },
        advanced=True,
        added=added,
    )


Scheme = Annotated[
    str,
    Choice(
        label="Scheme",
        help="Whether the grid is centred on zero or shifted to fit the range of the weights.",
        options={
            "symmetric": "the same range on both sides of zero; zero is code 0",
            "asymmetric": "from the smallest to the largest weight; a zero point shifts the codes",
        },
    ),
]
ScaleGranularity = Annotated[
    str,
    scale_granularity("How many weights share one step size: fewer is finer, but every scale takes 32 bits."),
]
GroupSize = Annotated[int, group_size()]
TrainedBits = Annotated[int, trained_bits("Bits", "Width of a weight's code: 2^b levels, one of them zero.")]
RoundInputs = Annotated[
    bool,
    Toggle(
        label="Activations",
        help="Whether the numbers that enter each layer are rounded, too, by a step size of their own.",
    ),
]
InputBits = Annotated[
    int,
    trained_bits(
        "Activation bits", "Width of the codes of what enters a layer.", (("activations", (True,)),)
    ),
]
EndBits = Annotated[
    int,
    trained_bits(
        "First and last layer",
        "Width in the first and the last layer of the list, of weights and of what enters them, whatever the "
        "others have.",
    ),
]
TrainedGranularity = Annotated[str, one_per("step", "How many weights share one step size of 32 bits.")]
FirstGrid = Annotated[str, grid_of("whose step size is found from the mean size of the weights (LSQ)")]
RateWithSteps = Annotated[
    float,
    learning_rate(
        "How far a step moves weights and step sizes at the start; it falls to zero along a cosine."
    ),
]
TeacherShare = Annotated[float, teacher_share()]
Temperature = Annotated[float, temperature()]
AdvancedTeacherShare = Annotated[float, advanced(teacher_share())]
AdvancedTemperature = Annotated[float, advanced(temperature())]
KeepZeros = Annotated[
    bool,
    Toggle(
        label="Keep zeros",
        help="Weights that are exactly zero stay zero; off where rounding made the zeros, not pruning.",
        advanced=True,
    ),
]
WeightDecay = Annotated[float, weight_decay()]
AddedPrecision = Annotated[str, precision(added=True)]
OrderSeed = Annotated[
    int, seed("Fixes the order of the training samples, so that a run can be repeated exactly.")
]
