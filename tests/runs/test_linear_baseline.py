"""A network on texts that a linear model on their words beats."""

import random

import pytest

import datawinnow as dw
from datawinnow import api
from datawinnow.runs.linear_baseline import linear_accuracy, linear_note
from datawinnow.train import Recipe

TOPICS = {"sport": "goal match team", "money": "bank market stock", "space": "orbit moon rocket"}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Sentences of one topic word among eight that say nothing."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("topics")
    filler = [f"word{i}" for i in range(200)]
    for split, count in (("train", 240), ("test", 120)):
        rows = []
        for i in range(count):
            topic = list(TOPICS)[i % 3]
            words = [*draw.sample(filler, 8), draw.choice(TOPICS[topic].split())]
            draw.shuffle(words)
            rows.append(f"{' '.join(words)}\t{topic}")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return dw.load(folder)


def test_the_words_decide(splits):
    train, test = splits
    assert linear_accuracy(train, test) > 0.95


@pytest.mark.parametrize(("accuracy", "is_said"), [(0.4, True), (0.97, False), (1.0, False), (None, False)])
def test_it_is_said_only_where_it_is_ahead_beyond_noise(splits, accuracy, is_said):
    train, test = splits
    note = linear_note(train, test, accuracy, "sgd")
    assert bool(note) is is_said
    assert "this network 40.0%" in note or not is_said
    assert linear_note(train, None, accuracy, "sgd") == ""


@pytest.mark.parametrize(("optimizer", "is_named"), [("sgd", True), ("adamw", False)])
def test_another_optimizer_is_named_where_it_may_help(splits, tmp_path, optimizer, is_named):
    train, test = splits
    messages: list[str] = []
    recipe = Recipe(precision="fp32", lr=1e-6, optimizer=optimizer)
    with pytest.warns(dw.LearningWarning):
        api.train(train, test=test, run=tmp_path, log=messages.append, epochs=1, recipe=recipe)
    (note,) = [line for line in messages if "a linear model on the words has" in line]
    assert ("`optimizer='adamw'`" in note) == is_named


@pytest.mark.parametrize("verb", ["record", "train"])
def test_a_network_that_learned_little_is_named_beside_it(splits, tmp_path, verb):
    train, test = splits
    messages: list[str] = []
    options = {"epochs": 1, "model": "bag_of_embeddings", "recipe": Recipe(precision="fp32", lr=1e-6)}
    with pytest.warns(dw.LearningWarning):
        getattr(api, verb)(train, test=test, run=tmp_path / "run", log=messages.append, **options)
    assert sum("a linear model on the words has" in line for line in messages) == 1
