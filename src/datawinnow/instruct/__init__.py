"""Instruction data: quality indicators, the selector that learns from them, and the choice among pairs.

Indicators are scores with cards, one a file but for those of a language model (``language.py``). `instruct` does all of
it: read pairs, score them, choose, and say what is known.
"""

from datawinnow.core.card import collect
from datawinnow.instruct.choose import Choice
from datawinnow.instruct.clip import clip_score
from datawinnow.instruct.clusters import clusters_of
from datawinnow.instruct.embed import embed_texts
from datawinnow.instruct.judge import judge
from datawinnow.instruct.language import answer_loss, direct_loss, ifd, perplexity
from datawinnow.instruct.learn import Recipe
from datawinnow.instruct.length import length
from datawinnow.instruct.pairs import Pairs, read_pairs
from datawinnow.instruct.pca import PCA, fit_pca
from datawinnow.instruct.quotas import cluster_quotas
from datawinnow.instruct.reward import reward
from datawinnow.instruct.ridge import ridge
from datawinnow.instruct.run import instruct
from datawinnow.instruct.store import Store
from datawinnow.instruct.subsets import read_subsets

METHODS = collect(globals())

__all__ = [
    "METHODS",
    "PCA",
    "Choice",
    "Pairs",
    "Recipe",
    "Store",
    "answer_loss",
    "clip_score",
    "cluster_quotas",
    "clusters_of",
    "direct_loss",
    "embed_texts",
    "fit_pca",
    "ifd",
    "instruct",
    "judge",
    "length",
    "perplexity",
    "read_pairs",
    "read_subsets",
    "reward",
    "ridge",
]
