"""The indicators of a file of pairs: which models to ask, and their results as fields of the pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.instruct.answer_length import length
from datawinnow.instruct.clip import ClipModel, clip_score
from datawinnow.instruct.embed import embed_texts
from datawinnow.instruct.endpoint import Endpoint
from datawinnow.instruct.indicator_cache import IndicatorCache, default_cache_path
from datawinnow.instruct.language import DEFAULT_TEMPLATE, LanguageModel, answer_loss, direct_loss, ifd
from datawinnow.instruct.llm_judge import CostEstimate, Judge, RequestLimits, judge
from datawinnow.instruct.options import IndicatorOptions, JudgeOptions
from datawinnow.instruct.pairs import Pairs, Problem, problem_lines
from datawinnow.instruct.pca import fit_pca
from datawinnow.instruct.reward_model import reward

INDICATOR_ENDS = {"perplexity": "middle", "answer_loss": "low", "direct_loss": "low"}
"""Which end of an indicator is good; of any other the high one."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NUM_COMPONENTS = 6
"""Principal components of embeddings that are features, as published."""


def compute_indicators(
    pairs: Pairs,
    options: IndicatorOptions,
    judge_options: JudgeOptions | None = None,
    *,
    confirm: Callable[[str], bool] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Pairs:
    """Compute indicators of pairs.

    Args:
        pairs: the data.
        options: which indicators.
        judge_options: the judge; None asks none.
        confirm: called with a sentence that states the cost, before the judge is paid; returns whether to go on. None
            refuses, unless ``judge_options.yes``.
        progress: called as ``progress(stage, done, total)``.
        log: called with notes: what failed, and what was paid.

    Returns:
        The pairs with ``length`` and the computed indicators as further fields. Embeddings become
        ``image_embedding`` and ``text_embedding``, and their principal components ``image_features`` and
        ``text_features``. Pairs without an indicator have NaN, and a problem that names the reason.

    Raises:
        ArgumentError: transformers or openai is not installed, no such model, or a price without a cap.
        RunError: the judge is down or refuses, the cap is reached, or the cost was not confirmed.
    """
    run = _IndicatorRun(pairs, options, progress, log or (lambda _: None))
    if "length" not in pairs.numbers:
        run.add_number("length", length(pairs.answer))
    with IndicatorCache(options.cache or default_cache_path()) as cache:
        if options.clip is not None:
            run.add_clip(options.clip, cache)
        if options.reward_model is not None:
            run.add_number(
                "reward",
                reward(
                    pairs.instruction,
                    pairs.answer,
                    model=options.reward_model,
                    device=options.device,
                    cache=cache,
                    progress=progress,
                ),
            )
        if options.lm is not None:
            run.add_language_model(options.lm, cache)
        if options.embed is not None:
            rows = embed_texts(pairs.answer, model=options.embed, device=options.device, cache=cache, progress=progress)
            run.add_embedding("text", rows)
        if judge_options is not None and judge_options.model is not None:
            run.add_judge(judge_options.model, judge_options, cache, confirm)
    return replace(pairs, numbers=run.numbers, vectors=run.vectors, problems=run.problems)


class _IndicatorRun:
    """Collects the fields of one call of `compute_indicators`."""

    def __init__(
        self, pairs: Pairs, options: IndicatorOptions, progress: Progress | None, log: Callable[[str], None]
    ) -> None:
        self.pairs, self.options, self.progress, self.log = pairs, options, progress, log
        self.numbers, self.vectors, self.problems = dict(pairs.numbers), dict(pairs.vectors), list(pairs.problems)

    def add_number(self, name: str, values: Tensor) -> None:
        self.numbers[name] = values.double().numpy()

    def add_embedding(self, name: str, rows: Tensor) -> None:
        """Embeddings as a field, and their principal components, fitted once to all pairs, as features."""
        self.vectors[f"{name}_embedding"] = rows.double().numpy()
        num_complete = int((~rows.isnan().any(dim=1)).sum())
        # n rows span at most n - 1 directions around their mean.
        k = min(NUM_COMPONENTS, rows.shape[1], num_complete - 1)
        if k >= 1:
            self.vectors[f"{name}_features"] = fit_pca(rows, k)(rows).double().numpy()

    def add_problems(self, indicator: str, problems: list[tuple[int, str, str]]) -> None:
        """Problems as (position, kind, detail), logged and kept with those of the data."""
        placed = [Problem(int(self.pairs.place[i]), kind, detail) for i, kind, detail in problems]
        for line in problem_lines(self.pairs.file.row_word, placed):
            self.log(f"{indicator}: {line}")
        self.problems += placed

    def add_clip(self, model: str, cache: IndicatorCache) -> None:
        path = self.pairs.file.path
        folder = self.options.images or (path if path.is_dir() else path.parent)
        images = [image_path(self.pairs, i, folder) for i in range(len(self.pairs))]
        clip = ClipModel(model, device=self.options.device)
        score = clip_score(
            self.pairs.answer,
            images,
            clip=clip,
            keep_empty=self.options.clip_keep_empty,
            cache=cache,
            progress=self.progress,
        )
        self.add_number("clip", score)
        self.add_problems("clip", clip.problems)
        self.add_embedding("image", clip.embed_images(images, cache))

    def add_language_model(self, model: str, cache: IndicatorCache) -> None:
        pairs, progress = self.pairs, self.progress
        template = self.options.template or DEFAULT_TEMPLATE
        lm = LanguageModel(model, template=template, device=self.options.device)
        direct = direct_loss(pairs.answer, lm=lm, cache=cache, progress=progress)
        self.add_number("direct_loss", direct)
        # float64: exp of a large loss overflows float32.
        self.add_number("perplexity", direct.double().exp())
        if any(text.strip() for text in pairs.instruction):
            losses = answer_loss(pairs.instruction, pairs.answer, lm=lm, cache=cache, progress=progress)
            self.add_number("answer_loss", losses)
            self.add_number("ifd", ifd(pairs.instruction, pairs.answer, lm=lm, cache=cache, progress=progress))

    def add_judge(
        self, model: str, options: JudgeOptions, cache: IndicatorCache, confirm: Callable[[str], bool] | None
    ) -> None:
        if options.price_in + options.price_out > 0 and options.cap is None:
            raise ArgumentError("a price needs a cap: say with `cap=` what a run may cost at most")

        def confirm_cost(estimate: CostEstimate) -> bool:
            sentence = (
                f"judge: {estimate.questions:,} questions ({estimate.cached:,} answered before) cost up to "
                f"{estimate.cost:.2f}; the cap is {options.cap:g}"
            )
            self.log(sentence)
            return options.yes or (confirm is not None and confirm(sentence))

        scorer = Judge(
            Endpoint(options.endpoint, model, key_env=options.key_env, timeout=options.timeout),
            limits=RequestLimits(
                price_in=options.price_in,
                price_out=options.price_out,
                cap=options.cap,
                per_minute=options.per_minute,
                ask_again=options.ask_again,
            ),
            cache=cache,
            confirm=confirm_cost,
        )
        try:
            grades = judge(self.pairs.instruction, self.pairs.answer, scorer=scorer, progress=self.progress)
            self.add_number("judge", grades)
        finally:  # what was paid is reported even if the run fails
            usage = scorer.usage
            self.log(f"judge: {usage.answered:,} asked, {usage.cached:,} from before, {usage.cost:.4g} spent")
            failures = [
                (i, f"no grade: {kind}", usage.details[kind]) for kind, index in usage.failures.items() for i in index
            ]
            self.add_problems("judge", failures)


def image_path(pairs: Pairs, i: int, folder: Path) -> Path:
    """The image of a pair: the path in the data, else a file with the id as its name."""
    name = pairs.image[i]
    if name is not None:
        return folder / name
    candidates = [folder / f"{pairs.ids[i]}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])
