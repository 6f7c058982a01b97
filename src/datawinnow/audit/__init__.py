"""What is wrong with a dataset: functions on arrays, images and texts that return lists of issues."""

from datawinnow.audit.crowds import Crowd, dawid_skene, waum
from datawinnow.audit.label_errors import LabelErrors, find_label_errors, label_issues
from datawinnow.core.callable_module import make_callable
from datawinnow.core.issues import Issue, IssueTable

__all__ = ["Crowd", "Issue", "IssueTable", "LabelErrors", "dawid_skene", "find_label_errors", "label_issues", "waum"]

make_callable(__name__, "datawinnow.api.audit:audit")  # datawinnow.audit(...), as the verb
