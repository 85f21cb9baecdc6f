"""Pictures of prototypes and of results, in scikit-learn's Display idiom.

Each display stores arrays when made, computes them in a ``from_`` method and draws in ``plot``.
"""

from sklgm.plotting._alignment import AlignmentDisplay
from sklgm.plotting._bias import BiasDisplay
from sklgm.plotting._comparison import SelectionComparisonDisplay
from sklgm.plotting._convergence import ConvergenceDisplay
from sklgm.plotting._curve import PrototypeCurveDisplay
from sklgm.plotting._embedding import EmbeddingDisplay
from sklgm.plotting._prototypes import PrototypesDisplay
from sklgm.plotting._transfer import TransferDisplay

__all__ = [
    "AlignmentDisplay",
    "BiasDisplay",
    "ConvergenceDisplay",
    "EmbeddingDisplay",
    "PrototypeCurveDisplay",
    "PrototypesDisplay",
    "SelectionComparisonDisplay",
    "TransferDisplay",
]
