"""What prototypes tell of shortcuts: groups beside classes, classes that mix, objects unseen.

A group is anything an image has beside its class: its background, a hospital, a sex. Where groups
go with classes in the training data, a backbone may serve a class by its group, and prototypes
show it.
"""

from sklgm.bias._focus import ObjectFocus, object_focus
from sklgm.bias._report import BiasReport, diagnose_bias
from sklgm.bias._suspects import SuspectClasses, suspect_classes

__all__ = [
    "BiasReport",
    "ObjectFocus",
    "SuspectClasses",
    "diagnose_bias",
    "object_focus",
    "suspect_classes",
]
