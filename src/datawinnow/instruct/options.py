"""Options of `datawinnow.instruct`, for Python and the command line; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from datawinnow.core.errors import ArgumentError
from datawinnow.core.options import Option


@dataclass(frozen=True)
class PairFields:
    """Fields of a row.

    Attributes:
        answer: field of the answer. Default: a conversation, or the first of output, response, answer, completion,
            caption and target that a row has.
        instruction: field of the instruction. Default: the first of instruction, prompt, question and query.
        default_instruction: instruction of pairs that have none, for example: Describe this image in detail.
        image: field of the path of the image. Default: the first of image, image_path, image_file and file_name.
        id: field of the name. Default: the first of id, image_id, pair_id and uid.
    """

    PANEL: ClassVar[str] = "Data"

    answer: Annotated[str | None, Option("NAME")] = None
    instruction: Annotated[str | None, Option("NAME")] = None
    default_instruction: Annotated[str, Option("TEXT")] = ""
    image: Annotated[str | None, Option("NAME", flags=("--image-field",))] = None
    id: Annotated[str | None, Option("NAME", flags=("--id-field",))] = None


@dataclass(frozen=True)
class ChoiceOptions:
    """How to choose by a score.

    Attributes:
        select: selector, applied in every cluster by its share: top, k_center, cluster_quotas, ... Default: top, or
            cluster_quotas in paper mode.
        select_options: option of the selector (repeatable).
        clusters: a field of the data, kmeans, spectral or none; auto takes a field called cluster or spectral_cluster,
            else clusters of the embeddings.
        num_clusters: number of clusters that kmeans and spectral make.
        duplicates: leave out near-duplicates: pairs whose embeddings lie within this cosine distance of a kept pair.
            Default: duplicates are kept.
        embedding: field of the embeddings for clusters and duplicates. Default: that of the images, else of the texts.
        truncate_scores: sort by the score's integer part in cluster_quotas, as published. Default: in paper mode only.
    """

    PANEL: ClassVar[str] = "Method"

    select: Annotated[str | None, Option("NAME")] = None
    select_options: Annotated[Mapping[str, Any], Option(flags=("--select-option",))] = field(default_factory=dict)
    clusters: Annotated[str, Option("NAME")] = "auto"
    num_clusters: Annotated[int, Option("N", min=1)] = 10
    duplicates: Annotated[float | None, Option("DISTANCE")] = None
    embedding: Annotated[str | None, Option("NAME")] = None
    truncate_scores: bool = False

    def resolve(self, mode: str, scorer: str | None = None) -> ChoiceOptions:
        """With the selector of a mode where none is named.

        Args:
            mode: ``"paper"`` or ``"default"``.
            scorer: as named by the user; with both another scorer and another selector nothing of the published choice
                is left.

        Raises:
            ArgumentError: another mode.
        """
        if mode not in ("paper", "default"):
            raise ArgumentError(f"mode must be one of 'paper', 'default', got {mode!r}")
        is_published = mode == "paper" and (scorer is None or self.select is None)
        select = self.select or ("cluster_quotas" if is_published else "top")
        return replace(self, select=select, truncate_scores=self.truncate_scores or is_published)


@dataclass(frozen=True)
class ScorerOptions:
    """By what pairs are scored, and how far the score is tested.

    Attributes:
        subsets: ``.npz`` of labelled subsets; without it nothing is learned and pairs are ranked by their indicators.
        mode: ``"paper"``, the published arithmetic, or ``"default"``, corrected.
        scorer: ``"ridge"``, ``"mean"`` or the name of an indicator instead of the mode's network.
        seed: None is 42 in paper mode, as published, and 0 otherwise.
        check: leave subsets out, one at a time, to test the scorer; a result in the run folder is reused.
        recipe_options: fields of `SelectorRecipe` to change.
    """

    subsets: Path | str | None = None
    mode: str = "default"
    scorer: str | None = None
    seed: int | None = None
    check: bool = True
    recipe_options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class IndicatorOptions:
    """Indicators to compute, beside the length of the answer. An indicator that is a field of the data needs no option.

    Attributes:
        clip: CLIP of transformers (a folder or a name): the CLIP score, and embeddings of the images. Default: none.
        clip_keep_empty: count empty sentences in the CLIP score, as the published code does: the text behind the last
            full stop.
        images: folder of the images: by their path in the data, else by id. Default: the folder of the data.
        reward_model: sequence classifier of transformers with one label: the reward. Default: none.
        lm: causal language model of transformers: ifd, answer_loss, direct_loss and perplexity. Default: none.
        template: text before an answer for ``lm``, with {instruction} in it; chat is the tokenizer's own template.
            Default: the instruction and an empty line.
        embed: text encoder of transformers: embeddings of the answers, for clusters and duplicates. Default: none.
        cache: file of earlier results. Default: indicators.sqlite in the cache folder.
        device: where models run: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    """

    PANEL: ClassVar[str] = "Indicators"

    clip: Annotated[str | None, Option("MODEL")] = None
    clip_keep_empty: bool = False
    images: Annotated[Path | None, Option("FOLDER")] = None
    reward_model: Annotated[str | None, Option("MODEL")] = None
    lm: Annotated[str | None, Option("MODEL")] = None
    template: Annotated[str | None, Option("TEXT")] = None
    embed: Annotated[str | None, Option("MODEL")] = None
    cache: Annotated[Path | None, Option("FILE")] = None
    device: Annotated[str, Option("NAME", help="auto, cpu, cuda, cuda:1, ...")] = "auto"


@dataclass(frozen=True)
class JudgeOptions:
    """A language model that grades every answer.

    Attributes:
        model: name of the model that grades every answer from 0 to 100. Default: none.
        endpoint: base address of the endpoint.
        key_env: environment variable that holds the key.
        price_in: money for a million tokens of questions.
        price_out: money for a million tokens of answers.
        cap: money that a run may cost; needed for an endpoint that is not on this machine (0 where it is free).
            Default: none.
        per_minute: requests a minute. Default: no limit.
        timeout: seconds for one answer.
        yes: pay up to ``cap`` without a question.
        ask_again: ask again where an earlier answer could not be parsed.
    """

    PANEL: ClassVar[str] = "Judge (an OpenAI-compatible endpoint)"

    model: Annotated[str | None, Option("MODEL", flags=("--judge",))] = None
    endpoint: Annotated[str, Option("URL")] = "https://api.openai.com/v1"
    key_env: Annotated[str, Option("NAME")] = "OPENAI_API_KEY"
    price_in: Annotated[float, Option("MONEY", min=0)] = 0.0
    price_out: Annotated[float, Option("MONEY", min=0)] = 0.0
    cap: Annotated[float | None, Option("MONEY")] = None
    per_minute: Annotated[float | None, Option("N")] = None
    timeout: Annotated[float, Option("SECONDS")] = 60.0
    yes: bool = False
    ask_again: bool = False
