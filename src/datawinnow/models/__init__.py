"""The reference networks, one architecture a file, named as in the papers; any `nn.Module` works as well."""

from datawinnow.models.alexnet import alexnet
from datawinnow.models.bag_of_embeddings import bag_of_embeddings
from datawinnow.models.convnet import convnet
from datawinnow.models.lenet import lenet
from datawinnow.models.mlp import mlp
from datawinnow.models.registry import MODELS, build, choose
from datawinnow.models.resnet import resnet8, resnet18, resnet20, resnet34, resnet50
from datawinnow.models.text_cnn import text_cnn
from datawinnow.models.vgg import vgg11, vgg16_bn
from datawinnow.models.vit import vit, vit_base, vit_small, vit_tiny

__all__ = [
    "MODELS",
    "alexnet",
    "bag_of_embeddings",
    "build",
    "choose",
    "convnet",
    "lenet",
    "mlp",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "text_cnn",
    "vgg11",
    "vgg16_bn",
    "vit",
    "vit_base",
    "vit_small",
    "vit_tiny",
]
