"""Static pruning methods: a score with a selector, resolved once.

`METHODS` are those with a name, `create_method` makes one from a name or from a score and a selector, and `Method`
says what it needs and runs it on recorded arrays.
"""

from datawinnow.core.callable_module import make_callable
from datawinnow.methods.create import create_method
from datawinnow.methods.method import Method
from datawinnow.methods.published import METHODS

__all__ = ["METHODS", "Method", "create_method"]

make_callable(__name__, "datawinnow.api.methods:methods")  # datawinnow.methods(...), as the verb
