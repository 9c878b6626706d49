"""Probabilistic output layers: one network whose output is a distribution."""

import numpy as np

from ._estimator.auto import AUTO
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator
from ._estimator.regression import RegressorTask
from ._estimator.state import Problem
from ._model.posteriors import PointEstimates


@estimator
class _Probabilistic(Estimator):
    """A network, or several, whose weights are taken for certain."""

    def _posterior(self, problem: Problem, parameters: np.ndarray, spread: float = 1.0) -> PointEstimates:
        return PointEstimates(
            network=problem.network,
            parameters=parameters,
            features=problem.features,
            dropout_rate=self.dropout_rate,
        )


@estimator
class ProbabilisticRegressor(RegressorTask, _Probabilistic):
    """Neural network with a probabilistic output layer.

    The network outputs the parameters of a distribution over y and is trained by maximum likelihood (Nix & Weigend
    1994). It knows the noise of the data (aleatoric uncertainty), not its own ignorance: the epistemic part is zero.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    DeepEnsembleRegressor : Several such networks; adds epistemic uncertainty.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import ProbabilisticRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = 3 * X[:, 0] + np.random.default_rng(0).normal(scale=0.1, size=200)
    >>> model = ProbabilisticRegressor(hidden_layer_sizes=(), random_state=0).fit(X, y)
    >>> bool(abs(model.coef_[0] - 3) < 0.05)
    True
    >>> model.predict_interval(X[:4], coverage=0.9).shape
    (4, 2)
    """

    _auto = AUTO["ProbabilisticRegressor"]


@estimator
class ProbabilisticClassifier(ClassifierTask, _Probabilistic):
    """Neural network classifier with a categorical output layer.

    The deterministic network of every comparison: trained by cross-entropy, one draw, so its epistemic uncertainty is
    zero.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    DeepEnsembleClassifier : Several such networks; adds epistemic uncertainty.
    SNGPClassifier : One network that knows its distance from the data.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skuq import ProbabilisticClassifier
    >>> X, y = make_blobs(200, centers=3, random_state=0)
    >>> model = ProbabilisticClassifier(max_iter=30, random_state=0).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    """

    _auto = AUTO["ProbabilisticClassifier"]
