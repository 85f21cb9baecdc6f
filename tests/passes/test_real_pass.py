"""Which views of real images make the target."""

import numpy as np
import pytest
import torch

from sklgm import LGMDistiller
from sklgm.passes.real_pass import RealPass
from sklgm.passes.views import ViewStream
from sklgm.synthesis.augmentation import StandardAugmentation, centre_views
from tests.tiny_backbones import tiny_backbone

N = 40
NET = tiny_backbone()
ENCODER = LGMDistiller(NET, batch_size=N)._resolve(NET)


def views_of(flip, n_real_views):
    """Return canvases, and the batches of views with their shares."""
    canvases = torch.rand(N, 3, NET.canvas_size, NET.canvas_size)
    augmentation = None if flip is None else StandardAugmentation(flip=flip)
    stream = None
    if augmentation is not None and n_real_views:
        stream = ViewStream(augmentation, NET.canvas_size, seed=0)
    real_pass = RealPass(ENCODER, NET.device, augmentation, n_real_views, seed=0)
    found = list(real_pass._views(canvases, stream))
    assert sum(share for _, share in found) == pytest.approx(1)
    assert {len(pixels) for pixels, _ in found} == {N}
    return centre_views(canvases, NET.image_size, NET.centre_share), found


@pytest.mark.parametrize("n_real_views", [0, 2, 3])
def test_both_centre_crops_are_half(n_real_views):
    centre, ((plain, share), (mirrored, other), *random) = views_of(0.5, n_real_views)
    assert torch.equal(plain, centre)
    assert torch.equal(mirrored, centre.flip(-1))
    assert share == other == (0.25 if n_real_views else 0.5)
    assert len(random) == n_real_views
    assert all(share == 0.5 / n_real_views for _, share in random)


@pytest.mark.parametrize(("flip", "least", "most"), [(0.5, 0.3, 0.7), (1, 1, 1), (0.1, 0.01, 0.3)])
def test_beside_one_view_is_one_centre_crop(flip, least, most):
    centre, ((crop, share), (_, other)) = views_of(flip, 1)
    assert share == other == 0.5
    plain, mirrored = (
        np.array([torch.equal(*pair) for pair in zip(crop, one, strict=True)])
        for one in (centre, centre.flip(-1))
    )
    assert (plain ^ mirrored).all()
    assert least <= mirrored.mean() <= most


@pytest.mark.parametrize(("flip", "n_real_views"), [(0, 0), (0, 1), (0, 2), (None, 0), (None, 2)])
def test_without_flips_nothing_is_mirrored(flip, n_real_views):
    centre, ((crop, share), *random) = views_of(flip, n_real_views)
    assert torch.equal(crop, centre)
    n_random = 0 if flip is None else n_real_views
    assert share == (0.5 if n_random else 1)
    assert len(random) == n_random
