"""Conformal prediction intervals."""

from inspect import signature
from typing import NamedTuple

import numpy as np
from sklearn.base import RegressorMixin, is_classifier
from sklearn.utils import get_tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_y, check_is_fitted

from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from ._base import Conformal, Fold, reach_predictor
from ._quantiles import threshold

# Entries of an array (test rows × calibration rows × outputs) of CV+.
_MAX_ENTRIES = 2**22
# The coverage at which the scores of "quantile" are computed in fit, so that the most common call needs no others.
_FIT_COVERAGE = 0.9


class Band(NamedTuple):
    """What an estimator says about rows before calibration; the score of y is max(lower − y, y − upper) / scale.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_rows, n_outputs)
        In y's units; the same where there is only a point.
    scale : ndarray of shape (n_rows, n_outputs)
        Units of the score, in y's units.
    """

    lower: np.ndarray
    upper: np.ndarray
    scale: np.ndarray

    def scores(self, y: np.ndarray) -> np.ndarray:
        """How far outside the band each target is; negative inside."""
        excess = np.maximum(self.lower - y, y - self.upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            # A spread of zero makes any error infinitely strange, and no error ordinary.
            return np.where(excess == 0, 0.0, excess / self.scale)

    def take(self, rows: slice) -> "Band":
        """Band of some of the rows."""
        return Band(*(part[rows] for part in self))


def _widened(end, score, scale, sign):
    """End of a band, moved outwards by `score` times `scale`."""
    with np.errstate(invalid="ignore"):
        return end + sign * np.where(np.isinf(score), score, score * scale)


def absolute_band(estimator, X, coverage) -> Band:
    """|y − ŷ|: intervals of one width (Lei et al. 2018)."""
    mean = _columns(estimator.predict(X))
    return Band(mean, mean, np.ones_like(mean))


def normalized_band(estimator, X, coverage) -> Band:
    """|y − ŷ| / σ̂: intervals as wide as the predicted spread, times a factor (Lei et al. 2018, sec. 5.2)."""
    predictor, rows = reach_predictor(estimator, X)
    mean = _columns(estimator.predict(X))
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
    return Band(mean, mean, np.broadcast_to(_columns(std), mean.shape))


def quantile_band(estimator, X, coverage) -> Band:
    """max(q̂_lo − y, y − q̂_hi): the predicted central interval, moved by one length (CQR, Romano et al. 2019)."""
    predictor, rows = reach_predictor(estimator, X)
    if hasattr(predictor, "predict_quantiles"):
        ends = predictor.predict_quantiles(rows, quantiles=(0.5 - coverage / 2, 0.5 + coverage / 2))
    elif hasattr(predictor, "predict_interval"):
        ends = predictor.predict_interval(rows, coverage=coverage)
    else:
        raise TypeError(
            f"conformity_score='quantile' needs predicted quantiles, and {type(predictor).__name__} has neither "
            f"predict_quantiles nor predict_interval. Use one of skuq's regressors, or conformity_score='absolute'."
        )
    lower, upper = (_columns(end) for end in np.moveaxis(np.asarray(ends, dtype=float), -1, 0))
    return Band(lower, upper, np.ones_like(lower))


BANDS = {"absolute": absolute_band, "normalized": normalized_band, "quantile": quantile_band}


def _columns(values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values.reshape(len(values), -1)


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
        Held-out rows of positive weight.
    n_outputs_ : int
        Number of targets.
    n_features_in_ : int
        Number of features seen in ``fit``, if the estimator counts them.

    Notes
    -----
    A coverage c needs at least c / (1 − c) calibration rows (9 for 90 %, 99 for 99 %): with fewer only an infinite
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

    def __init__(self, estimator=None, *, method="split", conformity_score="absolute", cv=None, random_state=None):
        self.estimator = estimator
        self.method = method
        self.conformity_score = conformity_score
        self.cv = cv
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

    def _scores(self, estimator, X, y, coverage=_FIT_COVERAGE):
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
            If the calibration rows are too few for `coverage`.
        """
        check_is_fitted(self)
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        intervals, bands = [], None
        for level in np.atleast_1d(levels):
            if bands is None or self._keeps_rows:
                bands = [BANDS[self.conformity_score](fold.estimator, X, level) for fold in self._folds]
            intervals.append(self._interval(bands, float(level)))
        interval = np.stack(intervals, axis=-1) if levels.ndim else intervals[0]
        return interval[:, 0] if self.n_outputs_ == 1 else interval

    def _interval(self, bands, coverage):
        """Lower and upper ends, (n_rows, n_outputs, 2)."""
        scores = [self._fold_scores(fold, coverage) for fold in self._folds]
        weight = np.concatenate([fold.weight for fold in self._folds])
        if len(bands) == 1:
            reach = threshold(scores[0].T, weight, coverage)
            band = bands[0]
            lower, upper = (_widened(end, reach, band.scale, s) for end, s in ((band.lower, -1), (band.upper, 1)))
        else:
            lower, upper = cv_plus(bands, scores, weight, coverage)
        # The estimators' own point is never left out: intervals nest, and none is turned inside out by its correction.
        point = np.mean([0.5 * (band.lower + band.upper) for band in bands], axis=0)
        return np.stack([np.minimum(lower, point), np.maximum(upper, point)], axis=-1)

    def _fold_scores(self, fold: Fold, coverage):
        if not self._keeps_rows or coverage == _FIT_COVERAGE:
            return fold.scores
        return self._scores(fold.estimator, fold.X, fold.y, coverage)


def cv_plus(bands, scores, weight, coverage):
    """Lower and upper ends of the CV+ interval (Barber et al. 2021, eq. 13), each (n_rows, n_outputs).

    Each calibration row widens the band that its own fold's estimator gives for the new row by its own score; the upper
    end is the conformal quantile of the upper ends, the lower one its mirror image.

    Parameters
    ----------
    bands : list of Band
        Of the new rows, by each fold's estimator.
    scores : list of ndarray of shape (n_held_out, n_outputs)
        Of each fold's calibration rows.
    weight : ndarray of shape (n_calibration,)
    coverage : float
    """
    n_rows, n_outputs = bands[0].lower.shape
    step = max(1, _MAX_ENTRIES // (len(weight) * n_outputs))
    pieces = []
    for start in range(0, n_rows, step):
        here = [band.take(slice(start, start + step)) for band in bands]
        ends = []
        for sign, side in ((-1, 0), (1, 1)):
            # (n_rows, n_outputs, n_calibration), so that quantiles run along contiguous memory.
            each = [
                _widened(band[side][..., None], score.T[None], band.scale[..., None], sign)
                for band, score in zip(here, scores, strict=True)
            ]
            ends.append(sign * threshold(sign * np.concatenate(each, axis=-1), weight, coverage))
        pieces.append(ends)
    return (np.concatenate(side) for side in zip(*pieces, strict=True))
