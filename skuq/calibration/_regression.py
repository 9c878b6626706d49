"""Conformal prediction intervals."""

from dataclasses import replace
from inspect import signature

import numpy as np
from sklearn.base import RegressorMixin, is_classifier
from sklearn.utils import get_tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_y, check_is_fitted

from .._prediction.conformal import Band, columns, conformal_interval, grouped_interval
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from ..composites import unwrap
from ._base import Conformal

# The coverage at which the scores of "quantile" are computed in fit, so that the most common call needs no others.
_FIT_COVERAGE = 0.9


def absolute_band(estimator, X, coverage) -> Band:
    """|y − ŷ|: intervals of one width (Lei et al. 2018)."""
    mean = columns(estimator.predict(X))
    return Band(mean, mean, np.ones_like(mean))


def normalized_band(estimator, X, coverage) -> Band:
    """|y − ŷ| / σ̂: intervals as wide as the predicted spread, times a factor (Lei et al. 2018, sec. 5.2)."""
    predictor, rows = unwrap(estimator, X)
    mean = estimator.predict(X)
    if hasattr(predictor, "predict_uncertainty"):
        std = np.sqrt(predictor.predict_uncertainty(rows).total)
    elif "return_std" in signature(predictor.predict).parameters:
        std = predictor.predict(rows, return_std=True)[1]
    else:
        raise TypeError(
            f"conformity_score='normalized' needs a predicted spread, and {type(predictor).__name__} has neither "
            f"predict_uncertainty nor predict(X, return_std=True). Use one of skuq's regressors, or "
            f"conformity_score='absolute'."
        )
    return Band.around(mean, std)


def quantile_band(estimator, X, coverage) -> Band:
    """max(q̂_lo − y, y − q̂_hi): the predicted central interval, moved by one length (CQR, Romano et al. 2019)."""
    predictor, rows = unwrap(estimator, X)
    if hasattr(predictor, "predict_quantiles"):
        ends = predictor.predict_quantiles(rows, quantiles=(0.5 - coverage / 2, 0.5 + coverage / 2))
    elif hasattr(predictor, "predict_interval"):
        ends = predictor.predict_interval(rows, coverage=coverage)
    else:
        raise TypeError(
            f"conformity_score='quantile' needs predicted quantiles, and {type(predictor).__name__} has neither "
            f"predict_quantiles nor predict_interval. Use one of skuq's regressors, or conformity_score='absolute'."
        )
    lower, upper = (columns(end) for end in np.moveaxis(np.asarray(ends, dtype=float), -1, 0))
    return Band(lower, upper, np.ones_like(lower))


BANDS = {"absolute": absolute_band, "normalized": normalized_band, "quantile": quantile_band}


class ConformalRegressor(RegressorMixin, Conformal):
    r"""Prediction intervals with finite-sample coverage around any regressor.

    Parameters
    ----------
    estimator : estimator, default=None
        A regressor, Pipeline or search, fitted or not. None: :class:`skuq.ProbabilisticRegressor`. A fitted estimator
        in a ``FrozenEstimator`` is taken as with ``cv="prefit"``.
    method : {"split", "cross"}, default="split"
        "split": train on a part of the rows, calibrate on the rest; coverage of at least the nominal for any
        distribution, above it by at most 1 / (n_calibration + 1). "cross": CV+ (Barber et al. 2021): train on the rows
        outside each fold, calibrate on the fold; all rows do both, at the price of one fit a fold and one on all rows,
        which ``predict`` answers from. In practice the nominal coverage; what holds always is about 1 − 2 (1 −
        coverage).
    conformity_score : {"absolute", "normalized", "quantile"}, default="absolute"
        What is calibrated: "absolute" \|y − ŷ\|, for any regressor; "normalized" \|y − ŷ\| / σ̂, where the estimator has
        ``predict_uncertainty`` or ``predict(X, return_std=True)``; "quantile" (CQR, Romano et al. 2019), where it has
        ``predict_quantiles`` or ``predict_interval``.
    cv : int, splitter, iterable or "prefit", default=None
        Number of folds (None: 5), or what divides the rows; "split" calibrates on the first held-out part only, so
        ``cv=5`` holds out a fifth and ``ShuffleSplit(1, test_size=0.3)`` 30 %. "prefit": the estimator is fitted, and
        all rows given to ``fit`` calibrate it.
    groups : str, int, callable or None, default=None
        Coverage within groups of rows, each calibrated by its own rows (Mondrian, Vovk et al. 2005): a column of the X given
        to ``fit``, by its name in a DataFrame or by its number, or a function of X that gives one label for each row. None:
        coverage over all rows together.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds where `cv` is a number, and of the default estimator.

    Attributes
    ----------
    estimator_ : estimator
        Answers ``predict``.
    estimators_ : list of estimator
        Those whose held-out rows calibrate: one for "split", one a fold for "cross".
    conformity_scores_ : ndarray of shape (n_held_out, n_outputs)
        Of the held-out rows, fold by fold; of "quantile" those for a coverage of 0.9.
    n_calibration_ : int
        Held-out rows of positive weight, or rows that they stand for.
    groups_ : ndarray of shape (n_groups,)
        Only with `groups`: those seen in ``fit``, sorted.
    n_outputs_ : int
        Number of targets.
    n_features_in_ : int
        Number of features seen in ``fit``, if the estimator counts them.

    Notes
    -----
    A coverage c needs at least c / (1 − c) calibration rows (9 for 90 %, 99 for 99 %), with `groups` in each group that is
    asked for: with fewer only an infinite
    interval would do, and ``predict_interval`` raises a ValueError, as MAPIE does.

    Several outputs are calibrated one by one, each for its own coverage.

    "quantile" calibrates each coverage for itself, as published, so intervals of coverages close to each other may
    fail to nest by the noise of few calibration rows; "absolute" and "normalized" always nest. It keeps the
    calibration rows, since a coverage other than 0.9 has to predict them too.

    An interval always holds the middle of what the estimators said before calibration, as published intervals of low
    coverage may not where folds disagree or a negative correction turns an interval inside out.

    References
    ----------
    Barber, Candès, Ramdas, Tibshirani (2021), "Predictive inference with the jackknife+", Annals of Statistics.

    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman (2018), "Distribution-free predictive inference for regression", JASA.

    Romano, Patterson, Candès (2019), "Conformalized quantile regression", NeurIPS.

    Vovk, Gammerman, Shafer (2005), "Algorithmic learning in a random world", Springer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from skuq.calibration import ConformalRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(2000, 1))
    >>> y = 3 * X[:, 0] + rng.standard_t(df=3, size=2000)
    >>> model = ConformalRegressor(LinearRegression(), random_state=0).fit(X[:1000], y[:1000])
    >>> lower, upper = model.predict_interval(X[1000:], coverage=0.9).T
    >>> float(np.mean((lower <= y[1000:]) & (y[1000:] <= upper)).round(2))
    0.91
    """

    _parameter_constraints: dict = {**Conformal._parameter_constraints, "conformity_score": [StrOptions(set(BANDS))]}

    def __init__(
        self, estimator=None, *, method="split", conformity_score="absolute", cv=None, groups=None, random_state=None
    ):
        self.estimator = estimator
        self.method = method
        self.conformity_score = conformity_score
        self.cv = cv
        self.groups = groups
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = get_tags(self._inner()).target_tags.multi_output
        return tags

    def _default_estimator(self):
        from ..probabilistic import ProbabilisticRegressor

        return ProbabilisticRegressor(random_state=self.random_state)

    def _check_target(self, y, prefit):
        if is_classifier(self._inner()):
            raise TypeError(
                f"ConformalRegressor needs a regressor, got the classifier {type(self._inner()).__name__}. Use "
                f"ConformalClassifier."
            )
        y = _check_y(y, multi_output=True, y_numeric=True)
        self._y_ndim = y.ndim
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        return y

    def _training_target(self, y):
        return y if self._y_ndim == 2 else y[:, 0]

    @property
    def _keeps_rows(self):
        return self.conformity_score == "quantile"

    def _row_scores(self, estimator, X, y, coverage=_FIT_COVERAGE):
        band = BANDS[self.conformity_score](estimator, X, coverage)
        if band.lower.shape != y.shape:
            raise ValueError(
                f"The estimator predicts {band.lower.shape[1]} output(s), y has {y.shape[1]}. Calibrate it on the "
                f"targets that it predicts."
            )
        return band.scores(y)

    @says_coverage
    def predict_interval(self, X, coverage=0.9):
        """Calibrated prediction interval.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        coverage : float or sequence of float, default=0.9
            Probability inside the interval, strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper ends in y's units; a sequence of coverages adds a last axis.

        Raises
        ------
        ValueError
            If the calibration rows are too few for `coverage`, those of one group with `groups`, or if a group was not seen
            in ``fit``.
        """
        check_is_fitted(self)
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        group = None if self._groups is None else self._groups.codes(X)
        intervals, bands = [], None
        for level in np.atleast_1d(levels).tolist():
            if bands is None or self._keeps_rows:
                bands = [BANDS[self.conformity_score](estimator, X, level) for estimator in self.estimators_]
            scores = self._scores_at(level)
            if group is None:
                intervals.append(conformal_interval(bands, scores, level))
            else:
                intervals.append(grouped_interval(bands, scores, level, group, self.groups_.tolist()))
        interval = np.stack(intervals, axis=-1) if levels.ndim else intervals[0]
        return interval[:, 0] if self.n_outputs_ == 1 else interval

    def _scores_at(self, coverage):
        """Scores of the calibration rows for a coverage."""
        if not self._keeps_rows or coverage == _FIT_COVERAGE:
            return self._scores
        parts = zip(self.estimators_, self._rows, strict=True)
        values = [self._row_scores(estimator, rows, y, coverage) for estimator, (rows, y) in parts]
        return replace(self._scores, values=np.concatenate(values))
