"""What classification adds to a method: classes and their weights, and predictions of class probabilities."""

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._prediction.conformal import aps_scores, conformal_sets
from .._prediction.distributions import (
    PredictiveCategorical,
    Uncertainty,
    choose_labels,
    class_probabilities,
    class_uncertainty,
    smallest_sets,
)
from .._training.members import Members
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from .common import CommonParameters
from .parameters import estimator, inherited, parameter
from .state import Noise, Problem, Stretch
from .targets import Labels, class_weights

if TYPE_CHECKING:
    from .base import Estimator as Base
else:
    Base = object


Summary = Callable[[Stretch], np.ndarray]


@estimator
class ClassifierTask(ClassifierMixin, Base):
    """Predictions of a classifier: class probabilities, and how they vary over the draws."""

    class_weight: object = parameter(
        None,
        [dict, StrOptions({"balanced"}), None],
        """dict, "balanced" or None
        Weight of each class in the loss, ``{label: weight}``; "balanced": inversely to the classes' weights in y.
        Probabilities are then those of a population in which each class comes as many times as often as it weighs: use them
        to rank and to decide, not as frequencies, or set ``calibration="temperature"``, which takes the weights off.""",
    )

    calibration: str | None = parameter(
        None,
        [StrOptions({"conformal", "temperature"}), None],
        """{"conformal", "temperature"} or None
        What rows that training did not see are used for. "temperature": one number T that divides the logits of every draw
        and gives those rows the smallest log loss (Guo et al. 2017), class weights taken off, so that probabilities are
        frequencies of rows. "conformal": ``predict_set`` holds the true class with
        the probability asked for, whatever the model (Romano et al. 2020); all else stays the model's own. Up to 5000
        different rows, five further fits predict one fold each; beyond, the estimator itself holds rows out, a fifth or
        about 10000.""",
    )

    # Labels say less of a row than numbers do.
    n_bins: int = inherited(CommonParameters, "n_bins", 8)

    _attributes_doc = """
    classes_ : ndarray of shape (n_classes,)
        Labels seen in ``fit``, sorted.
    coef_, intercept_ : ndarray of shape (1 or n_classes, n_features), ndarray of shape (1 or n_classes,)
        Of a linear model (``hidden_layer_sizes=()``), in the user's units; the mean over networks, divided by the
        temperature, less the logarithms of class weights where it takes them off.
    temperature_ : float
        Only with ``calibration="temperature"``: what the logits are divided by, above 1 where they were too sure.
"""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _read_target(self, y: Any, sample_weight: np.ndarray) -> tuple[Labels, np.ndarray]:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        classes, codes = np.unique(y, return_inverse=True)
        present = np.unique(codes[sample_weight > 0])
        if len(present) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes with a positive weight, got the class "
                f"{classes.tolist()[present[0]]!r} only. Check y and sample_weight."
            )
        self.classes_ = classes
        weights = class_weights(self.class_weight, classes, codes, y, sample_weight)
        reader = Labels(classes=classes, weights=weights, weighted=self.class_weight is not None)
        return reader, codes.reshape(-1, 1).astype(float)

    def _fit_noise(self, problem: Problem, members: Members, parameters: np.ndarray) -> tuple[Noise, float]:
        return Noise(), 1.0

    def _report_weights(self) -> None:
        super()._report_weights()
        self.__dict__.pop("temperature_", None)  # of an earlier fit
        if self._state.calibration.method == "temperature":
            self.temperature_ = self._state.calibration.temperature

    # Predictions.

    def _predictive_logits(self, X: Stretch) -> tuple[np.ndarray, float | np.ndarray]:
        """Logits (n_draws, n_rows, n_raw) as trained, whose probabilities average to the predictive ones.

        Also the factors, broadcastable to (n_rows, n_raw), by which they are closer to 0 than the logits of the network.
        """
        return self._state.posterior.draws().raw(X)[0], 1.0

    def _probabilities(self, logits: np.ndarray, tempering: float | np.ndarray = 1.0) -> np.ndarray:
        """Class probabilities (…, n_classes) of logits as trained, (…, n_raw)."""
        calibration = self._state.calibration
        return class_probabilities(logits / calibration.temperature - calibration.log_class_weight * tempering)

    def _held_out_logits(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Logits and factors, as :meth:`_predictive_logits` has them, of validated rows."""
        pairs = [self._predictive_logits(rows) for rows in self._state.stretches(X)]
        factors = [np.ones((logits.shape[1], 1)) * factor for logits, factor in pairs]
        return np.concatenate([logits for logits, _ in pairs], axis=1), np.concatenate(factors)

    def _draw_probabilities(self, X: Stretch) -> np.ndarray:
        """Class probabilities of every draw, (n_draws, n_rows, n_classes), for standardised rows."""
        return self._probabilities(*self._predictive_logits(X))

    def _mean_probabilities(self, X: Stretch) -> np.ndarray:
        """Predictive class probabilities, (n_rows, n_classes), for standardised rows."""
        return self._draw_probabilities(X).mean(axis=0)

    def _draw_and_mean_probabilities(self, X: Stretch) -> tuple[np.ndarray, np.ndarray]:
        """Both of the above, computed once."""
        draws = self._draw_probabilities(X)
        return draws, draws.mean(axis=0)

    def _uncertainty(self, X: Stretch) -> Uncertainty:
        return class_uncertainty(self._draw_probabilities(X))

    def _summarize(self, X: Any, summary: Summary) -> np.ndarray:
        """Apply `summary` to each stretch of standardised rows and join the results."""
        return self._summarize_checked(self._check_rows(X), summary)

    def _summarize_checked(self, X: Any, summary: Summary) -> np.ndarray:
        """The same for rows that are validated already."""
        return np.concatenate([summary(rows) for rows in self._state.stretches(X)])

    def _conformity_scores(self, X: Any, y: np.ndarray) -> np.ndarray:
        """Scores of validated rows that the model has not seen: probability of the classes above their own."""
        # The calibrated form of predict_set: the likeliest classes up to one total, never none.
        scores = aps_scores(self._summarize_checked(X, self._mean_probabilities))
        return scores[np.arange(len(y)), np.searchsorted(self.classes_, y)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predictive class probabilities, the mean over the draws.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._summarize(X, self._mean_probabilities)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable label of each row.

        With ``class_weight`` and ``calibration="temperature"``, whose probabilities are free of class weights, the label of the
        largest probability times weight: that of least expected cost, if an error costs what its class weighs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        probabilities = self.predict_proba(X)
        log_weight = np.atleast_1d(self._state.calibration.log_class_weight)
        if np.any(log_weight != 0):
            # The one logit of two classes has the log weight of the second over the first.
            log_weight = np.append(0.0, log_weight) if len(log_weight) < len(self.classes_) else log_weight
            probabilities = probabilities * np.exp(log_weight - log_weight.max())
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_uncertainty(self, X: Any) -> Uncertainty:
        """Predictive entropy, split into ambiguity of the data and disagreement of the draws.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        Uncertainty
            Named tuple ``(total, aleatoric, epistemic)`` of ndarrays of shape (n_samples,), in nats: predictive entropy =
            expected entropy + mutual information of label and draw.
        """
        parts = self._summarize(X, lambda rows: np.stack(self._uncertainty(rows), axis=-1))
        return Uncertainty(*np.moveaxis(parts, -1, 0))

    def _draw_quantiles(self, X: Any, levels: np.ndarray) -> np.ndarray:
        return self._summarize(
            X, lambda rows: np.moveaxis(np.quantile(self._draw_probabilities(rows), levels, axis=0), 0, -1)
        )

    @says_coverage
    def predict_interval(self, X: Any, coverage: Any = 0.9) -> np.ndarray:
        """Credible interval of each class probability over the draws.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        coverage : float or sequence of float, default=0.9
            Share of the draws inside the interval, strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, 2)
            Lower and upper ends; a sequence of coverages adds a last axis. A method with one draw has intervals of no
            width.
        """
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        tails = np.stack([0.5 - levels / 2, 0.5 + levels / 2])
        ends = self._draw_quantiles(X, tails.ravel())
        return ends.reshape(*ends.shape[:-1], *tails.shape)

    @says_coverage
    def predict_quantiles(self, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles over the draws of each class probability.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
            Levels strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, n_quantiles)
        """
        levels = np.atleast_1d(check_levels("quantiles", quantiles, "For the median pass quantiles=0.5."))
        return self._draw_quantiles(X, levels)

    @says_coverage
    def predict_set(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Smallest set of classes whose predictive probabilities sum to at least `coverage`.

        Fitted with ``calibration="conformal"``: the likeliest classes up to a total that held-out rows say is needed, so
        that the true class is among them with probability `coverage`, or more where the likeliest alone is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        coverage : float, default=0.9
            Strictly between 0 and 1.

        Returns
        -------
        ndarray of bool, shape (n_samples, n_classes)
            Whether each class is in the set.
        """
        level = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        if level.ndim:
            raise ValueError(f"coverage must be one number for predict_set, got {coverage!r}. {COVERAGE_EXAMPLE}")
        scores = self._fitted_state().calibration.conformal
        if scores is not None:
            class_scores = aps_scores(self._summarize(X, self._mean_probabilities))
            return conformal_sets([class_scores], scores, np.atleast_1d(level), may_be_empty=False)[..., 0]
        return self._summarize(X, lambda rows: smallest_sets(self._mean_probabilities(rows), float(level)))

    def predict_dist(self, X: Any) -> PredictiveCategorical:
        """Predictive distribution of the label, with all draws.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        PredictiveCategorical
            Holds 8 bytes · n_draws · n_samples · n_classes.
        """
        X = self._check_rows(X)
        draws, means = [], []
        for rows in self._state.stretches(X):
            own, mean = self._draw_and_mean_probabilities(rows)
            draws.append(own)
            means.append(mean)
        return PredictiveCategorical(self.classes_, np.concatenate(means), np.concatenate(draws, axis=1))

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Sample labels; all rows of one sample share a draw.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples)
        """
        X = self._check_rows(X)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(random_state)
        choose = self._function_sampler(n_samples, rng)
        samples = []
        for rows in self._state.stretches(X):
            probabilities = choose(rows)
            uniform = rng.uniform(size=(n_samples, len(rows), 1))
            codes = [choose_labels(p, u)[:, 0] for p, u in zip(probabilities, uniform, strict=True)]
            samples.append(self.classes_[np.stack(codes, axis=1)])
        return np.concatenate(samples)

    def _function_sampler(self, n_samples: int, rng: np.random.RandomState) -> Callable[[Stretch], np.ndarray]:
        """Function from standardised rows to class probabilities of `n_samples` functions chosen at random."""
        which = rng.randint(self._state.posterior.n_draws, size=n_samples)
        return lambda rows: self._draw_probabilities(rows)[which]
