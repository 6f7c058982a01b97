"""Class ids of a test or held-out split go by the names of the train split's classes."""

import pytest
import torch
from PIL import Image

from datawinnow.core.errors import DataError
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Examples
from datawinnow.data.kept import Kept
from datawinnow.data.objects import with_class_ids

ANIMALS = ("bird", "cat", "dog")


def dataset(labels, classes):
    return Examples(torch.randn(len(labels), 3), torch.tensor(labels), classes, "animals")


class Folder:
    """As torchvision's ``ImageFolder``: a folder without birds numbers its classes from the cats on."""

    classes = ["cat", "dog"]
    targets = [0, 1, 1]

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.full((2,), float(i)), self.targets[i]


def test_other_orders_and_some_of_the_classes():
    turned = with_class_ids(dataset([0, 1, 2, 0], ("dog", "cat", "bird")), classes=ANIMALS)
    assert (turned.labels.tolist(), turned.classes) == ([2, 1, 0, 2], ANIMALS)
    folder = with_class_ids(Folder(), classes=ANIMALS)
    assert [folder[i][1] for i in range(3)] == [1, 2, 2]
    assert folder[2][0].tolist() == [2.0, 2.0]
    kept = Kept(dataset([0, 1], ("cat", "bird")), Selection.everything(2))
    assert with_class_ids(kept, classes=ANIMALS).dataset.labels.tolist() == [1, 0]


def test_images_that_are_converted_have_the_names_of_their_folders():
    class Pictures(Folder):
        def __getitem__(self, i):
            return Image.new("L", (4, 4)), self.targets[i]

    assert with_class_ids(Pictures()).classes == ("cat", "dog")
    assert with_class_ids(Pictures(), classes=ANIMALS).labels.tolist() == [1, 2, 2]


@pytest.mark.parametrize("classes", [ANIMALS, ANIMALS[:2], ("0", "1"), ("0", "1", "2")])
def test_what_has_these_ids_already_stays_the_same_object(classes):
    data = dataset([0, 1, 1], classes)
    assert with_class_ids(data, classes=ANIMALS) is data
    assert with_class_ids(data) is data


def test_names_that_are_numbers_are_names_where_the_train_split_has_such():
    assert with_class_ids(dataset([0, 1], ("1", "2")), classes=("0", "1", "2")).labels.tolist() == [1, 2]


def test_a_class_that_the_train_split_does_not_have_is_refused_where_it_is_used():
    classes = ("ant", "cat", "dog")
    with pytest.raises(DataError, match=r"the class 'ant' of animals is none .*'bird', 'cat', 'dog'.*leave its"):
        with_class_ids(dataset([0, 1, 2], classes), classes=ANIMALS)
    assert with_class_ids(dataset([1, 2], classes), classes=ANIMALS).labels.tolist() == [1, 2]


def test_names_that_a_hugging_face_dataset_has_for_its_ids():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"x": datasets.List(datasets.Value("float32")), "y": datasets.ClassLabel(names=["dog", "cat"])}
    )
    table = datasets.Dataset.from_dict({"x": [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], "y": [0, 1, 0]}, features=features)
    assert with_class_ids(table, classes=ANIMALS).labels.tolist() == [2, 1, 2]
