"""Pictures of prototypes, in scikit-learn's Display idiom.

Each display stores arrays when made, computes them in ``from_estimator`` and draws in ``plot``.
"""

from sklgm.plotting._bias import BiasDisplay
from sklgm.plotting._embedding import EmbeddingDisplay
from sklgm.plotting._prototypes import PrototypesDisplay

__all__ = ["BiasDisplay", "EmbeddingDisplay", "PrototypesDisplay"]
