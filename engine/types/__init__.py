"""The nouns of slimscope: figures, recipes, and a model as frozen data.

Everything here is a value. Nothing here knows how a model is built (`engine.net.zoo`),
what a technique does (`engine.techniques`) or how a figure is obtained
(`engine.figures.count`, `engine.figures.theory`, `engine.figures.measure`).
"""

from engine.types.bundles import TIES, Arch, Bundle, weight_layers
from engine.types.figures import Basis, Figure, SlimscopeError
from engine.types.params import FormatError, Param, Section
from engine.types.progress import Cancelled, Progress, Report
from engine.types.recipes import Recipe, Step

__all__ = ["TIES", "Arch", "Basis", "Bundle", "Cancelled", "Figure", "FormatError", "Param", "Progress"]
__all__ += ["Recipe", "Report", "Section", "SlimscopeError", "Step", "weight_layers"]
