"""What callbacks of tests share."""


class Follower:
    """A callback that counts the steps of fits. Those that inherit from it do more."""

    max_propagation_depth = None
    n_steps = 0

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context):
        self.n_steps += context.task_name == "step"

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return False
