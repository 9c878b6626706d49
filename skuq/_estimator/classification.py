"""What classification adds to a method: classes and their weights, and predictions of class probabilities."""

from numbers import Integral

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._data.rows import Standardizer
from .._model.heads import classification_head
from .._prediction.conformal import aps_scores, conformal_sets
from .._prediction.distributions import (
    PredictiveCategorical,
    Uncertainty,
    choose_labels,
    class_probabilities,
    class_uncertainty,
    smallest_sets,
)
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from .base import Target
from .parameters import estimator, parameter


@estimator
class ClassifierTask(ClassifierMixin):
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

    _attributes_doc = """
    classes_ : ndarray of shape (n_classes,)
        Labels seen in ``fit``, sorted.
    coef_, intercept_ : ndarray of shape (1 or n_classes, n_features), ndarray of shape (1 or n_classes,)
        Of a linear model (``hidden_layer_sizes=()``), in the user's units; the mean over networks, divided by the
        temperature, less the logarithms of class weights where it takes them off.
    temperature_ : float
        Only with ``calibration="temperature"``: what the logits are divided by, above 1 where they were too sure.
"""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_target(self, y, sample_weight):
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
        self._loss_weights = self._class_weights(classes, codes, y, sample_weight)
        return codes.reshape(-1, 1).astype(float)

    def _class_weights(self, classes, codes, y, sample_weight):
        if isinstance(self.class_weight, str):
            mass = np.bincount(codes, weights=sample_weight, minlength=len(classes))
            return np.divide(mass.sum(), len(classes) * mass, out=np.zeros_like(mass), where=mass > 0)
        weights = compute_class_weight(self.class_weight, classes=classes, y=y)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError(
                f"class_weight must hold finite weights ≥ 0, not all of them 0, got {self.class_weight!r}."
            )
        return weights

    def _encode_target(self, y, weight, previous, exposure=None) -> Target:
        codes = y[:, 0].astype(int)
        head = classification_head(len(self.classes_))
        encoded = codes[:, None] if head.n_outputs == 1 else np.eye(len(self.classes_), dtype=np.float32)[codes]
        weight = weight * self._loss_weights[codes]
        del self._loss_weights
        return Target(head, encoded.astype(np.float32), weight, codes, Standardizer.identity(head.n_outputs))

    def _fit_to_held_out(self, problem, members, parameters):
        return np.ones((1, 1, 1)), 1.0

    def _strata(self, y):
        return y[:, 0].astype(int)

    def _training_target(self, y):
        return self.classes_[y[:, 0].astype(int)]

    def _log_class_weight(self, y, weight):
        """What class weights add to the logits, (n_logits,): a class of weight w is learned as if it came w times as often."""
        if self.class_weight is None:
            return 0.0
        codes = y[:, 0].astype(int)
        weights = self._class_weights(self.classes_, codes, self.classes_[codes], weight)
        # A class of weight 0 is never seen, and says nothing of how often it comes: it stays as improbable as it is.
        weights = np.where(weights > 0, weights, weights.max())
        shift = np.log(weights)
        return shift[1:] - shift[:1] if len(shift) == 2 else shift

    def _report_weights(self):
        super()._report_weights()
        self.__dict__.pop("temperature_", None)  # of an earlier fit
        if self._state.calibration.method == "temperature":
            self.temperature_ = self._state.calibration.temperature

    def _coefficient_shapes(self, coef, intercept):
        calibration = self._state.calibration
        return coef / calibration.temperature, intercept / calibration.temperature - calibration.log_class_weight

    # Predictions.

    def _predictive_logits(self, X):
        """Logits (n_draws, n_rows, n_raw) as trained, whose probabilities average to the predictive ones.

        Also the factors, broadcastable to (n_rows, n_raw), by which they are closer to 0 than the logits of the network.
        """
        return self._call_draws().raw(X)[0], 1.0

    def _probabilities(self, logits, tempering=1.0):
        """Class probabilities (…, n_classes) of logits as trained, (…, n_raw)."""
        calibration = self._state.calibration
        return class_probabilities(logits / calibration.temperature - calibration.log_class_weight * tempering)

    def _held_out_logits(self, X):
        """Logits and factors, as :meth:`_predictive_logits` has them, of validated rows."""
        pairs = [self._predictive_logits(rows) for rows in self._chunks(X)]
        factors = [np.ones((logits.shape[1], 1)) * factor for logits, factor in pairs]
        return np.concatenate([logits for logits, _ in pairs], axis=1), np.concatenate(factors)

    def _draw_probabilities(self, X):
        """Class probabilities of every draw, (n_draws, n_rows, n_classes), for standardised rows."""
        return self._probabilities(*self._predictive_logits(X))

    def _mean_probabilities(self, X):
        """Predictive class probabilities, (n_rows, n_classes), for standardised rows."""
        return self._draw_probabilities(X).mean(axis=0)

    def _draw_and_mean_probabilities(self, X):
        """Both of the above, computed once."""
        draws = self._draw_probabilities(X)
        return draws, draws.mean(axis=0)

    def _uncertainty(self, X) -> Uncertainty:
        return class_uncertainty(self._draw_probabilities(X))

    def _summarize(self, X, summary):
        """Apply `summary` to each stretch of standardised rows and join the results."""
        return self._summarize_checked(self._check_rows(X), summary)

    def _summarize_checked(self, X, summary):
        """The same for rows that are validated already."""
        return np.concatenate([summary(rows) for rows in self._chunks(X)])

    def _conformity_scores(self, X, y):
        """Scores of validated rows that the model has not seen: probability of the classes above their own."""
        # The calibrated form of predict_set: the likeliest classes up to one total, never none.
        scores = aps_scores(self._summarize_checked(X, self._mean_probabilities))
        return scores[np.arange(len(y)), np.searchsorted(self.classes_, y)]

    def predict_proba(self, X):
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

    def predict(self, X):
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

    def predict_uncertainty(self, X) -> Uncertainty:
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

    def _draw_quantiles(self, X, levels):
        return self._summarize(
            X, lambda rows: np.moveaxis(np.quantile(self._draw_probabilities(rows), levels, axis=0), 0, -1)
        )

    @says_coverage
    def predict_interval(self, X, coverage=0.9):
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
    def predict_quantiles(self, X, quantiles=(0.05, 0.5, 0.95)):
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
    def predict_set(self, X, coverage=0.9):
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
        scores = self._fitted_conformal()
        if scores is not None:
            class_scores = aps_scores(self._summarize(X, self._mean_probabilities))
            return conformal_sets([class_scores], scores, np.atleast_1d(level), may_be_empty=False)[..., 0]
        return self._summarize(X, lambda rows: smallest_sets(self._mean_probabilities(rows), float(level)))

    def predict_dist(self, X) -> PredictiveCategorical:
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
        for rows in self._chunks(X):
            own, mean = self._draw_and_mean_probabilities(rows)
            draws.append(own)
            means.append(mean)
        return PredictiveCategorical(self.classes_, np.concatenate(means), np.concatenate(draws, axis=1))

    def sample_y(self, X, n_samples=1, random_state=0):
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
        for rows in self._chunks(X):
            probabilities = choose(rows)
            uniform = rng.uniform(size=(n_samples, len(rows), 1))
            codes = [choose_labels(p, u)[:, 0] for p, u in zip(probabilities, uniform, strict=True)]
            samples.append(self.classes_[np.stack(codes, axis=1)])
        return np.concatenate(samples)

    def _function_sampler(self, n_samples, rng):
        """Function from standardised rows to class probabilities of `n_samples` functions chosen at random."""
        which = rng.randint(self._n_draws(), size=n_samples)
        return lambda rows: self._draw_probabilities(rows)[which]
