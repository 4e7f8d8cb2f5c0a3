"""The published results that slimscope runs again, in the order in which they are listed.

Adding one is a file here and a line below; `slimscope papers` shows how far each has come.
"""

from engine.papers.banner import ACIQ
from engine.papers.cai import ZEROQ
from engine.papers.designs import DESIGNS
from engine.papers.esser import LSQ, LSQ_TAUGHT
from engine.papers.esser import VGG as LSQ_VGG
from engine.papers.frankle import LOTTERY_TICKET
from engine.papers.frantar_gptq import GPTQ
from engine.papers.han import LENET_5, LENET_300_100
from engine.papers.han_deep import LENET_5 as DEEP_LENET_5
from engine.papers.han_deep import LENET_300_100 as DEEP_LENET_300_100
from engine.papers.harness import Paper
from engine.papers.he import CHANNELS
from engine.papers.hinton import DISTILLATION
from engine.papers.ingredients import INGREDIENTS
from engine.papers.jung import QIL
from engine.papers.kim_factors import FACTORS
from engine.papers.kim_tucker import TUCKER
from engine.papers.krishnamoorthi import INT8
from engine.papers.li import RESNET, VGG
from engine.papers.liu import SLIMMING
from engine.papers.prabhavalkar import PROJECTION
from engine.papers.record import LENET_5 as RECORD_LENET_5
from engine.papers.record import LENET_300_100 as RECORD_LENET_300_100
from engine.papers.record_curve import CURVE
from engine.papers.sun_wanda import WANDA
from engine.papers.tang import MINILM
from engine.papers.taught import LENET_5 as TAUGHT_LENET_5
from engine.papers.taught import RESNET as TAUGHT_RESNET
from engine.papers.taught import SLIMMING as TAUGHT_SLIMMING
from engine.papers.taught import VGG as TAUGHT_VGG
from engine.papers.yao import MIXED_BITS
from engine.papers.yao_zeroquant import ZEROQUANT
from engine.types import SlimscopeError

STUDIES = (INGREDIENTS, CURVE, DESIGNS)  # our own recipes: one seed, and nothing published to compare with

PAPERS: dict[str, Paper] = {
    paper.name: paper
    for paper in (
        LENET_300_100,
        LOTTERY_TICKET,
        LENET_5,
        TAUGHT_LENET_5,
        DEEP_LENET_300_100,
        DEEP_LENET_5,
        RECORD_LENET_300_100,
        INGREDIENTS,
        CURVE,
        RECORD_LENET_5,
        SLIMMING,
        TAUGHT_SLIMMING,
        CHANNELS,
        VGG,
        TAUGHT_VGG,
        RESNET,
        TAUGHT_RESNET,
        INT8,
        ACIQ,
        ZEROQ,
        LSQ,
        LSQ_TAUGHT,
        LSQ_VGG,
        QIL,
        MIXED_BITS,
        ZEROQUANT,
        MINILM,
        GPTQ,
        WANDA,
        PROJECTION,
        TUCKER,
        DISTILLATION,
        FACTORS,
        DESIGNS,
    )
}


def get(name: str) -> Paper:
    """The reproduction called `name`. Raises SlimscopeError for a stranger."""
    if name not in PAPERS:
        raise SlimscopeError(f"paper {name!r} is unknown; there are {', '.join(PAPERS)}")
    return PAPERS[name]
