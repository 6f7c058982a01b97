"""Anything a user has -> examples on the device; batches are ``(index, x, y)``."""

from datawinnow.data.examples import Augment, Examples, LazyExamples, Origin
from datawinnow.data.load import load
from datawinnow.data.texts import Texts
from datawinnow.data.tokens import Vocabulary, tokenize
from datawinnow.data.write import write_kept

__all__ = ["Augment", "Examples", "LazyExamples", "Origin", "Texts", "Vocabulary", "load", "tokenize", "write_kept"]
