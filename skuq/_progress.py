"""Progress of a fit, shown only when asked for."""

from contextlib import contextmanager


@contextmanager
def progress_bar(estimator, n_epochs: int):
    """Give a function (epochs done, epochs in all, loss) that moves a bar, or None where ``verbose`` is off."""
    if not estimator.verbose:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n_epochs, desc=type(estimator).__name__, unit="epoch") as bar:

        def show(done: int, total: int, loss: float) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)

        yield show
