"""Who watches a fit: a progress bar where ``verbose`` is on, and scikit-learn's callbacks (1.9 and later)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """In place of scikit-learn's: no callbacks."""


@contextmanager
def callbacks(estimator: Any) -> Iterator[Any]:
    """Call the callbacks of an estimator at the beginning and at the end of its fit.

    Gives the context of the fit, below which its epochs are tasks, or None where nobody called ``set_callbacks``. Callbacks
    that ask for a ``fitted_estimator`` get one at the end alone: noise and draws are found when training is over.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        yield None
        return
    context = estimator._init_callback_context(max_subtasks=1)
    context.call_on_fit_task_begin(estimator=estimator)
    yield context
    context.call_on_fit_task_end(estimator=estimator, reconstruction_attributes=dict)


@contextmanager
def watched(estimator: Any, context: Any, n_epochs: int) -> Iterator[Any]:
    """Give a function (epochs done, epochs in all, loss) for `train` that tells all who watch, or None where nobody does.

    The function returns whether a callback asks training to stop.
    """
    watchers = []
    with ExitStack() as stack:
        if estimator.verbose:
            watchers.append(stack.enter_context(_progress_bar(type(estimator).__name__, n_epochs)))
        if context is not None:
            watchers.append(stack.enter_context(_epoch_tasks(estimator, context, n_epochs)))
        yield (lambda *epoch: any(watcher(*epoch) for watcher in watchers)) if watchers else None


@contextmanager
def _progress_bar(name: str, n_epochs: int) -> Iterator[Any]:
    from tqdm.auto import tqdm

    with tqdm(total=n_epochs, desc=name, unit="epoch") as bar:

        def show(done: int, total: int, loss: float) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)

        yield show


@contextmanager
def _epoch_tasks(estimator: Any, context: Any, n_epochs: int) -> Iterator[Any]:
    """One task for training and one below it for each epoch; epochs come in stretches of up to a second."""
    training = context.subcontext("train", max_subtasks=n_epochs).call_on_fit_task_begin(estimator=estimator)
    told = 0

    def tell(done: int, total: int, loss: float) -> bool:
        nonlocal told
        stop = False
        while told < done:
            epoch = training.subcontext("epoch").call_on_fit_task_begin(estimator=estimator)
            stop |= epoch.call_on_fit_task_end(estimator=estimator)
            told += 1
        return stop

    yield tell
    training.call_on_fit_task_end(estimator=estimator)
