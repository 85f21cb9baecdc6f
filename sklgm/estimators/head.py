"""Heads on a bank of views embedded once: softmax regression by Adam, or another classifier."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.utils import gen_batches
from sklearn.utils.validation import _check_method_params
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from sklgm.passes.encoder import as_tensor
from sklgm.utils.devices import plain_torch

# Samples in a step of training, as published.
_BATCH_SIZE = 100
# Samples that are predicted at once.
_ROWS_AT_ONCE = 8192
# Largest feature: Adam squares gradients, which are as large as features.
_LARGEST = 1e18


class LinearHead(nn.Module):
    """A linear layer with small random weights, which leaves the global generator alone."""

    def __init__(self, n_features: int, n_classes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(n_classes, n_features, generator=generator) * 0.01)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (n, n_classes) of features (n, n_features)."""
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(features, self.weight, self.bias)


class _BankBatches:
    """One epoch: every sample once, shuffled, each by one of its views at random."""

    def __init__(self, dataset: Any, batch_size: int, generator: torch.Generator) -> None:
        self.bank, self.targets = dataset.X, as_tensor(dataset.y)
        self.batch_size = batch_size
        self.generator = generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n, n_views = self.bank.shape[:2]
        order = torch.randperm(n, generator=self.generator)
        view = torch.randint(n_views, (n,), generator=self.generator)
        for rows in order.split(self.batch_size):
            # Of a bank that is mapped from a file, only this is read.
            features = self.bank[rows.numpy(), view[rows].numpy()]
            yield torch.from_numpy(features), self.targets[rows]


def _in_order(dataset: Any, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield large batches; unlike torch's loader this leaves the global generator alone."""
    for rows in gen_batches(len(dataset.X), _ROWS_AT_ONCE):
        features = as_tensor(dataset.X[rows])
        yield features, torch.zeros(len(features))


class SoftmaxRegression(NeuralNetClassifier):
    """skorch's classifier with scores and with labels of any kind, those of ``classes``."""

    @property
    def coef_(self) -> np.ndarray:
        """Weights (n_classes, d), or of two classes the second's less the first's (1, d)."""
        return self._as_scores(self.module_.weight)

    @property
    def intercept_(self) -> np.ndarray:
        """Biases (n_classes,), or of two classes (1,)."""
        return self._as_scores(self.module_.bias)

    @staticmethod
    def _as_scores(of_classes: Tensor) -> np.ndarray:
        rows = of_classes.detach().cpu().numpy()
        return rows[1:] - rows[:1] if len(rows) == 2 else rows

    def get_default_callbacks(self) -> list[Any]:
        """Return none: they score and print every epoch, which takes longer than the steps."""
        return []

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Any:
        """Train. skorch's own ends at a KeyboardInterrupt as if all epochs were done."""
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return labels of features (n, d); logits of all are never held."""
        best = [logits.argmax(dim=1) for logits in self.forward_iter(X)]
        return self.classes_[torch.cat(best).numpy()]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits (n, n_classes), or of two classes the second's less the first's (n,)."""
        logits = self.forward(X).cpu().numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def fit_linear_head(
    probe: Any, bank: np.ndarray, targets: np.ndarray, classes: np.ndarray, seed: int
) -> SoftmaxRegression:
    """Return the default head of a probe, trained; it predicts labels of features (n, d).

    ``bank`` (n, n_views, d) holds features of several views of each sample, float32. ``targets``
    are their class indices (n,), int64, or soft labels (n, n_classes), the probabilities of
    ``classes``, float32. A ValueError says if the features are too large for Adam, or training does
    not stay finite.
    """
    device = probe._device()
    largest = max(bank.max(), -bank.min())
    if not largest < _LARGEST:
        raise ValueError(
            f"Features reach {largest:.3g}: from {_LARGEST:.0e} on, gradients overflow float32. "
            f"Scale the features down, or pass another classifier as head=."
        )
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=probe.max_epochs)
    net = SoftmaxRegression(
        LinearHead,
        module__n_features=bank.shape[-1],
        module__n_classes=len(classes),
        module__seed=seed,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=probe.learning_rate,
        max_epochs=probe.max_epochs,
        batch_size=min(_BATCH_SIZE, len(bank)),
        iterator_train=_BankBatches,
        iterator_train__generator=torch.Generator().manual_seed(seed),
        iterator_valid=_in_order,
        train_split=None,
        classes=classes,
        callbacks=[("schedule", schedule)],
        verbose=0,
        device=str(device),
    )
    with plain_torch(device):
        net.fit(bank, targets)
    if not all(bool(parameter.isfinite().all()) for parameter in net.module_.parameters()):
        raise ValueError(
            "The weights of the head are not finite. Lower learning_rate, or scale features down."
        )
    # What is left of training is larger than the head, and bound to its device.
    net.module_.to("cpu")
    net.device = "cpu"
    net.optimizer_ = None
    net.callbacks, net.callbacks_ = None, []
    net.history_.clear()
    return net


def fit_other_head(
    head: Any, bank: np.ndarray, labels: np.ndarray, soft_labels: Any, metadata: dict[str, Any]
) -> Any:
    """Return a clone of a classifier, trained on every view of a bank (n, n_views, d).

    ``labels`` and ``metadata`` for its ``fit`` have a value a sample. If there are soft labels, a
    warning says that they are not used.
    """
    if soft_labels is not None:
        warnings.warn(
            f"head={head!r} takes no soft labels and is trained on the classes of the prototypes "
            f"alone. The default head, head=None, takes them.",
            UserWarning,
            stacklevel=5,  # past fit and two wrappers of scikit-learn around it
        )
    rows = np.arange(len(bank)).repeat(bank.shape[1])
    metadata = _check_method_params(labels, metadata, indices=rows)
    with warnings.catch_warnings():
        # One prototype a class is no regression; of labels that are given we have warned.
        warnings.filterwarnings("ignore", "The number of unique classes")
        try:
            return clone(head).fit(bank.reshape(len(rows), -1), labels[rows], **metadata)
        except Exception as error:
            kind = "" if is_classifier(head) else ", which is no classifier"
            error.add_note(f"This was raised by the fit of head={head!r}{kind}.")
            raise
