"""
Pictures of a fit in TensorBoard
================================

Any callback of scikit-learn can look at the prototypes while they are made. This one, of ten lines,
writes them to TensorBoard (``pip install tensorboard``); W&B and others take one line in its place.
"""

# %%
# The callback
# ------------
# At the end of every task of a fit ``on_fit_task_end`` is called. The task "step" is a step of the
# optimiser, and ``fitted_estimator`` is the distiller as if the fit had stopped there. Return True
# from it to stop the fit.

from io import BytesIO
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from sklgm import LGMDistiller
from sklgm.datasets import load_openmoji


class PicturesToTensorBoard:
    """Write the loss of each step, and at every so many steps the prototypes, to a folder."""

    def __init__(self, folder, every=20):
        self.folder, self.every = folder, every

    def setup(self, estimator, context):
        self.writer = SummaryWriter(self.folder)

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "step":
            step, pictures = context.task_id + 1, fitted_estimator.prototypes_
            self.writer.add_scalar("loss", fitted_estimator.loss_curve_[-1], step)
            if step == 1 or step % self.every == 0:
                self.writer.add_images("prototypes", pictures, step, dataformats="NHWC")
                # wandb.log({"prototypes": [wandb.Image(p) for p in pictures]}, step=step)

    def teardown(self, estimator, context):
        self.writer.close()


# %%
# A fit that it follows
# ---------------------
# A third of the pictures of OpenMoji, in eight classes. While it runs, ``tensorboard --logdir
# FOLDER`` shows them in a browser. The fit itself is the same as without a callback, to the last
# bit.

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
folder = mkdtemp()
distiller = LGMDistiller("efficientnet_lite0", image_size=56, max_iter=60, random_state=0)
distiller.set_callbacks(PicturesToTensorBoard(folder)).fit(openmoji.images[::3], names[::3])

# %%
# With ``FrozenBackboneProbe(distiller=distiller)`` set it on the distiller, too; with
# ``max_propagation_depth = None`` in the class it may be set on the probe, or on a grid search.

# %%
# What was logged
# ---------------
# TensorBoard's own reader finds the pictures in the folder again, here from the first step down to
# the last. Prototypes start as blurred means of the real pictures, and grow finer while the loss
# falls.

logged = EventAccumulator(folder, size_guidance={"images": 0}).Reload()
steps = logged.Images("prototypes")
figure, axes = plt.subplots(len(steps), 1, figsize=(7.5, 4.2), layout="constrained")
losses = {event.step: event.value for event in logged.Scalars("loss")}
for ax, event in zip(axes, steps, strict=True):
    strip = imread(BytesIO(event.encoded_image_string))
    ax.imshow(strip)
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(f"step {event.step}\nloss {losses[event.step]:.2f}", rotation=0, ha="right")
places = (np.arange(8) + 0.5) * strip.shape[1] / 8
axes[-1].set_xticks(places, distiller.classes_)
plt.show()
