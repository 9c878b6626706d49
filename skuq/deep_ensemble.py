"""Deep ensembles: several networks from different starts, trained side by side."""

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ._estimator.auto import AUTO
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, parameter
from ._estimator.regression import RegressorTask
from .probabilistic import _Probabilistic


@estimator
class _DeepEnsemble(_Probabilistic):
    """M networks as one batched computation, or as several; with held-out rows each member leaves out another fold."""

    n_members: int = parameter(
        10,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Networks in the ensemble.""",
    )
    n_jobs: int | None = parameter(
        None,
        [Interval(Integral, 1, None, closed="left"), Interval(Integral, None, -1, closed="right"), None],
        """int or None
        None trains all members together in this process, as one batched computation. An integer divides them into so many
        groups and trains each in a joblib worker (-1: one for each processor); choose where with
        ``joblib.parallel_config``. It pays for wide networks and many rows on a machine with several processors. For small
        networks the batched computation is faster than any number of processes, each of which has to import the framework;
        on a GPU, which the workers would have to share, leave it at None. Prediction ignores it.""",
    )

    def _n_networks(self) -> int:
        return self.n_members

    def _jobs(self) -> int | None:
        return self.n_jobs


@estimator
class DeepEnsembleRegressor(RegressorTask, _DeepEnsemble):
    """Deep ensemble regressor.

    Networks with probabilistic output layers, trained from different starting weights on different shuffles; their equal
    mixture is the prediction (Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles"). Each member holds out another fold of the rows, keeps the weights that predict them best, and
    together the held-out rows say how large the noise is.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import DeepEnsembleRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = DeepEnsembleRegressor(n_members=3, max_iter=20, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.predict_dist(X).ppf(0.5).shape
    (100,)
    """

    _auto = AUTO["DeepEnsembleRegressor"]


@estimator
class DeepEnsembleClassifier(ClassifierTask, _DeepEnsemble):
    """Deep ensemble classifier.

    Networks trained from different starting weights on different shuffles; the mean of their class probabilities is the
    prediction (Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles").

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skuq import DeepEnsembleClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = DeepEnsembleClassifier(n_members=3, max_iter=20, random_state=0).fit(X, y)
    >>> model.predict_uncertainty(X).epistemic.shape
    (200,)
    """

    _auto = AUTO["DeepEnsembleClassifier"]
