"""The techniques in menu order; importing this package fills the registry.

Adding one is a file here and a line below.
"""

# The order is the order of the menu, so it is not sorted.
# isort: off
from engine.techniques.prune import prune_weights as prune_weights
from engine.techniques.prune import optimal_brain_damage as optimal_brain_damage
from engine.techniques.prune import sparse_gpt as sparse_gpt
from engine.techniques.prune import prune_filters as prune_filters
from engine.techniques.prune import prune_channels as prune_channels
from engine.techniques.prune import prune_heads as prune_heads
from engine.techniques.prune import slim as slim
from engine.techniques.prune import condense as condense
from engine.techniques.distill import finetune as finetune
from engine.techniques.prune import prune_iteratively as prune_iteratively
from engine.techniques.prune import lottery_ticket as lottery_ticket
from engine.techniques.quantize import equalize as equalize
from engine.techniques.quantize import smoothquant as smoothquant
from engine.techniques.quantize import quantize as quantize
from engine.techniques.quantize import mixed_precision as mixed_precision
from engine.techniques.quantize import number_format as number_format
from engine.techniques.quantize import ternarize as ternarize
from engine.techniques.quantize import binarize as binarize
from engine.techniques.quantize import aciq as aciq
from engine.techniques.quantize import adaround as adaround
from engine.techniques.quantize import gptq as gptq
from engine.techniques.quantize import weight_only as weight_only
from engine.techniques.quantize import zeroq as zeroq
from engine.techniques.quantize import zeroquant as zeroquant
from engine.techniques.quantize import entropy_penalty as entropy_penalty
from engine.techniques.quantize import share_weights as share_weights
from engine.techniques.quantize import product_quantize as product_quantize
from engine.techniques.quantize import train_centroids as train_centroids
from engine.techniques.quantize import ternarize_trained as ternarize_trained
from engine.techniques.quantize import quantize_aware as quantize_aware
from engine.techniques.quantize import learn_intervals as learn_intervals
from engine.techniques.quantize import distill_quantized as distill_quantized
from engine.techniques.quantize import recalibrate as recalibrate
from engine.techniques.quantize import trim as trim
from engine.techniques.factor import low_rank as low_rank
from engine.techniques.factor import low_rank_rnn as low_rank_rnn
from engine.techniques.compact import replace_convs as replace_convs
from engine.techniques.compact import search_design as search_design
from engine.techniques.distill import distill as distill
from engine.techniques.distill import factor_transfer as factor_transfer
