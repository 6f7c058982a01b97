"""Instruction data: quality indicators, the selector that learns from labelled subsets, and the choice among pairs.

``datawinnow.instruct(...)`` does all of it; its parts are here too. Indicators are scores with cards, one a file but
for those of a language model (``language.py``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from datawinnow.core.callable_module import make_callable

if TYPE_CHECKING:
    from datawinnow.instruct.answer_length import length
    from datawinnow.instruct.clip import ClipModel, clip_score
    from datawinnow.instruct.clusters import clusters_of
    from datawinnow.instruct.embed import embed_texts
    from datawinnow.instruct.endpoint import Endpoint
    from datawinnow.instruct.indicator_cache import IndicatorCache
    from datawinnow.instruct.indicators import compute_indicators
    from datawinnow.instruct.language import LanguageModel, answer_loss, direct_loss, ifd, perplexity
    from datawinnow.instruct.llm_judge import Judge, RequestLimits, judge
    from datawinnow.instruct.options import ChoiceOptions, IndicatorOptions, JudgeOptions, PairFields
    from datawinnow.instruct.pairs import Pairs, read_pairs
    from datawinnow.instruct.pca import PCA, fit_pca
    from datawinnow.instruct.quotas import cluster_quotas
    from datawinnow.instruct.reward_model import reward
    from datawinnow.instruct.ridge_model import ridge
    from datawinnow.instruct.run import InstructResult, run_instruct
    from datawinnow.instruct.selector import SelectorRecipe
    from datawinnow.instruct.subsets import read_subsets

# Imported when first used: the command line reads the options of this package and must not wait for torch.
_MODULES = {
    "ChoiceOptions": "options",
    "ClipModel": "clip",
    "Endpoint": "endpoint",
    "IndicatorCache": "indicator_cache",
    "IndicatorOptions": "options",
    "InstructResult": "run",
    "Judge": "llm_judge",
    "JudgeOptions": "options",
    "LanguageModel": "language",
    "PCA": "pca",
    "PairFields": "options",
    "Pairs": "pairs",
    "RequestLimits": "llm_judge",
    "SelectorRecipe": "selector",
    "answer_loss": "language",
    "clip_score": "clip",
    "cluster_quotas": "quotas",
    "clusters_of": "clusters",
    "compute_indicators": "indicators",
    "direct_loss": "language",
    "embed_texts": "embed",
    "fit_pca": "pca",
    "ifd": "language",
    "judge": "llm_judge",
    "length": "answer_length",
    "perplexity": "language",
    "read_pairs": "pairs",
    "read_subsets": "subsets",
    "reward": "reward_model",
    "ridge": "ridge_model",
    "run_instruct": "run",
}

make_callable(__name__, "datawinnow.api.instruct:instruct")

__all__ = [
    "METHODS",
    "PCA",
    "ChoiceOptions",
    "ClipModel",
    "Endpoint",
    "IndicatorCache",
    "IndicatorOptions",
    "InstructResult",
    "Judge",
    "JudgeOptions",
    "LanguageModel",
    "PairFields",
    "Pairs",
    "RequestLimits",
    "SelectorRecipe",
    "answer_loss",
    "clip_score",
    "cluster_quotas",
    "clusters_of",
    "compute_indicators",
    "direct_loss",
    "embed_texts",
    "fit_pca",
    "ifd",
    "judge",
    "length",
    "perplexity",
    "read_pairs",
    "read_subsets",
    "reward",
    "ridge",
    "run_instruct",
]


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        from datawinnow.core.card import collect

        return collect({name: __getattr__(name) for name in _MODULES})
    if name in _MODULES:
        return getattr(importlib.import_module(f"datawinnow.instruct.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
