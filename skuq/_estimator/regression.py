"""What regression adds to a method: the likelihood, targets, and predictions in y's units."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import RegressorMixin, clone
from sklearn.utils import check_array, check_random_state, check_scalar
from sklearn.utils._param_validation import StrOptions

from .._data.folds import Part
from .._data.rows import Standardizer
from .._prediction.conformal import Band, columns, conformal_interval
from .._prediction.distributions import PredictiveMixture, Uncertainty
from .._training.members import MAX_HELD_OUT
from .._training.noise import NOTICEABLE, ensemble_factor, fit_siblings, scale_limit
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from ..likelihoods import NAMED, Likelihood, link_parameters, resolve_likelihood
from .base import Target
from .parameters import estimator, parameter

# Training computes in float32, in which rates by these exposures are neither zero nor infinite.
EXPOSURES = 1e-20, 1e20


def _mean_and_std(mixture):
    return np.stack([mixture.mean(), mixture.std()], axis=-1)


@estimator
class RegressorTask(RegressorMixin):
    """Predictions of a regressor: summaries of the mixture of its draws."""

    likelihood: str | Likelihood = parameter(
        "normal",
        [StrOptions(set(NAMED)), Likelihood],
        """str or Likelihood
        Distribution of y given the network's outputs: "normal", "laplace", "student_t", "lognormal", "gamma",
        "poisson", "negative_binomial", "zero_inflated_gamma", "zero_inflated_poisson", "zero_inflated_negative_binomial", or an
        object of :mod:`skuq.likelihoods`.""",
    )

    calibration: str | None = parameter(
        None,
        [StrOptions({"conformal"}), None],
        """"conformal" or None
        "conformal": ``predict_interval`` holds y with the probability asked for, whatever the model: the predictive mean ±
        as many predictive standard deviations as rows say that training did not see (Lei et al. 2018, sec. 5.2); all else
        stays the model's own. Up to 5000 different rows, five further fits predict one fold each; beyond, the estimator
        itself holds rows out, a fifth or about 10000.""",
    )

    _attributes_doc = """
    n_outputs_ : int
        Number of targets.
    coef_, intercept_ : ndarray of shape (n_features,) or (n_outputs, n_features), float or ndarray
        Of a linear model (``hidden_layer_sizes=()``), in the user's units; the mean over networks.
"""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        tags.input_tags.sparse = True
        named = isinstance(self.likelihood, str) and self.likelihood in NAMED
        if named or isinstance(self.likelihood, Likelihood):
            family = NAMED[self.likelihood]() if named else self.likelihood
            tags.target_tags.positive_only = family.support[0] >= 0
        return tags

    def _check_target(self, y, sample_weight):
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")  # None in y becomes NaN here
        resolve_likelihood(self.likelihood).check_target(y[sample_weight > 0])
        self._single_output = y.ndim == 1 or y.shape[1] == 1
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        return y

    def _exposure_column(self, likelihood):
        column = getattr(likelihood, "exposure", None)
        if column is None:
            return None
        what = f"{type(likelihood).__name__}(exposure={column!r})"
        if isinstance(column, str):
            names = getattr(self, "feature_names_in_", None)
            if names is None:
                raise ValueError(
                    f"{what} names a column, but X has no column names, got an array. Pass a DataFrame, or the column's position."
                )
            found = np.flatnonzero(names == column)
            if not len(found):
                raise ValueError(f"{what} names no column of X, which has {names.tolist()}. Pass one of these names.")
            return int(found[0])
        if column >= self.n_features_in_:
            raise ValueError(
                f"{what}: X has {self.n_features_in_} columns. Pass a position from 0 to {self.n_features_in_ - 1}."
            )
        return int(column)

    def _exposure(self, X, weight=None):
        likelihood = resolve_likelihood(self.likelihood) if weight is not None else self._state.likelihood
        column = self._exposure_column(likelihood)
        if column is None:
            return None
        exposure = X[:, [column]]
        exposure = np.asarray(exposure.toarray() if sparse.issparse(exposure) else exposure, float)[:, 0]
        counted = exposure if weight is None else exposure[weight > 0]
        if np.any(counted <= 0):
            raise ValueError(
                f"The exposure of counts must be positive, got a minimum of {counted.min():g} in column {likelihood.exposure!r} "
                f"({np.count_nonzero(counted <= 0)} of {len(counted)} rows ≤ 0). Leave rows without exposure out, "
                f"and let a transformer that scales X pass this column on."
            )
        low, high = EXPOSURES
        if np.any((counted < low) | (counted > high)):
            raise ValueError(
                f"The exposure of counts must lie between {low:g} and {high:g}, got values between {counted.min():g} and "
                f"{counted.max():g} in column {likelihood.exposure!r}. Give it in another unit."
            )
        return exposure

    def _by_position(self):
        column = self._exposure_column(resolve_likelihood(self.likelihood))
        if column is None:
            return {}
        return {"likelihood": clone(self.likelihood).set_params(exposure=column)}

    def _encode_target(self, y, weight, previous, exposure=None) -> Target:
        likelihood = clone(resolve_likelihood(self.likelihood))  # changing the parameter later changes no prediction
        y = likelihood.transform_target(y)
        if previous is not None:
            standardizer = previous.y_standardizer
        elif likelihood.target_transform in ("divide", "count"):
            standardizer = Standardizer.by_mean(y, weight, exposure, of_positive=likelihood.has_zero_probability)
        elif self.standardize and likelihood.target_transform is not None:
            standardizer = Standardizer.fit(y, weight)
        else:
            standardizer = Standardizer.identity(y.shape[1])
        z = y if likelihood.target_transform == "count" else (y - standardizer.shift) / standardizer.scale
        if likelihood.target_transform == "divide":
            check_multiples(z, likelihood)
        z = (z if exposure is None else np.column_stack([z, exposure])).astype(np.float32)
        return Target(likelihood.head(y.shape[1]), z, weight, None, standardizer, likelihood)

    def _continues(self, previous):
        now, before = resolve_likelihood(self.likelihood), previous.likelihood
        same_exposure = self._exposure_column(now) == self._exposure_column(before)
        return super()._continues(previous) and before.target_transform == now.target_transform and same_exposure

    def _fit_to_held_out(self, problem, members, parameters):
        target, rows = problem.target, problem.rows
        if not (target.likelihood.learns_scale and members.holds_out):
            return np.ones((1, 1, 1)), 1.0
        likelihood = target.likelihood.on_training_scale()

        held_out = [members.held_out[m] for m in members.scored]
        if len(members.kept) > 1:
            index = np.concatenate([part.rows for part in held_out])
            mixture = self._training_mixture(problem, members, parameters, members.kept, index)
            return ensemble_factor(likelihood, mixture, rows, held_out)[None, None], 1.0
        best_loss, best = np.inf, (np.ones(1), 1.0)
        for spread in self._auto.spreads:
            mixtures = [
                self._training_mixture(problem, members, parameters, [m], part.rows, spread)
                for m, part in zip(members.scored, held_out, strict=True)
            ]
            factor, loss = fit_siblings(likelihood, mixtures, rows, held_out)
            if loss < best_loss - NOTICEABLE:
                best_loss, best = loss, (factor, spread)
            elif loss > best_loss:
                break
        factor, spread = best
        return factor[None, None], spread

    def _noise_limit(self, problem, members, parameters, noise_scale, spread):
        target = problem.target
        if not (target.likelihood.target_transform == "log" and target.head.scales_loss):
            return super()._noise_limit(problem, members, parameters, noise_scale, spread)
        networks, parts = members.scored, [members.held_out[m] for m in members.scored]
        if not members.holds_out:
            n_rows = len(problem.rows.weight)
            networks, parts = members.kept[:1], [Part(np.arange(0, n_rows, -(-n_rows // MAX_HELD_OUT)))]
        mixtures = []
        for m, part in zip(networks, parts, strict=True):
            own = self._training_mixture(problem, members, parameters, [m], part.rows, spread)
            mixtures.append({**own, "scale": own["scale"] * noise_scale})
        return scale_limit(
            target.likelihood.on_training_scale(), mixtures, problem.rows, parts, target.standardizer.scale
        )

    def _training_mixture(self, problem, members, parameters, networks, index, spread=1.0) -> dict:
        """Likelihood parameters that the draws of some networks give training rows, (n_draws, n_rows, n_outputs)."""
        raw, constants = self._draws(problem, parameters[networks], spread).raw(problem.rows.take(index))
        return link_parameters(problem.target.head, raw, constants, problem.target.fixed)

    def _strata(self, y):
        return None

    def _training_target(self, y):
        return y[:, 0] if self._single_output else y

    def _log_class_weight(self, y, weight):
        return 0.0

    def _coefficient_shapes(self, coef, intercept):
        return (coef[0], float(intercept[0])) if self._single_output else (coef, intercept)

    # Predictions.

    def _mixture(self, X) -> PredictiveMixture:
        """Mixture of the draws for standardised rows."""
        raw, constants = self._call_draws().raw(X)
        return self._as_mixture(link_parameters(self._state.head, raw, constants, self._state.fixed))

    def _as_mixture(self, parameters, model_variance=None) -> PredictiveMixture:
        """Parameters in standardised units → mixture in y's units."""
        state = self._state
        if state.likelihood.learns_scale:
            scale = np.minimum(parameters["scale"] * state.noise_scale, state.noise_limit)
            parameters = {**parameters, "scale": scale}
        y = state.y_standardizer
        parameters = state.likelihood.to_target_units(parameters, y.shift, y.scale)
        return PredictiveMixture(state.likelihood, parameters, self._single_output, model_variance)

    def _summarize(self, X, summary):
        """Apply `summary` to the mixture of each stretch of rows and join the results."""
        return self._summarize_checked(self._check_rows(X), summary)

    def _summarize_checked(self, X, summary):
        """The same for rows that are validated already."""
        return np.concatenate([summary(mixture) for mixture in self._mixtures(X)])

    def _mixtures(self, X):
        """Mixtures of stretches of validated rows, each row for its own exposure."""
        exposure, start = self._exposure(X), 0
        for rows in self._chunks(X):
            yield self._exposed(self._mixture(rows), exposure, start)
            start += len(rows)

    def _exposed(self, mixture, exposure, start):
        """A mixture for exposure 1 made one for the exposures of its rows, which are `exposure[start:]`."""
        if exposure is None:
            return mixture
        own = exposure[start : start + mixture.shape[1], None]
        return PredictiveMixture(
            mixture.likelihood,
            self._state.head.exposed(mixture.parameters, own),
            self._single_output,
            mixture.model_variance,
        )

    def _conformity_scores(self, X, y):
        """Scores of validated rows that the model has not seen: their errors in its standard deviations."""
        mean, std = np.moveaxis(self._summarize_checked(X, _mean_and_std), -1, 0)
        return Band.around(mean, std).scores(columns(y))

    def predict(self, X, return_std=False):
        """Predictive mean.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return the predictive standard deviation too, noise included.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In y's units.
        std : ndarray of the same shape
            Only if `return_std`; in y's units.
        """
        if not return_std:
            return self._summarize(X, PredictiveMixture.mean)
        both = self._summarize(X, _mean_and_std)
        return both[..., 0], both[..., 1]

    def predict_uncertainty(self, X) -> Uncertainty:
        """Predictive variance, split into noise and model uncertainty.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        Uncertainty
            Named tuple ``(total, aleatoric, epistemic)`` of ndarrays of shape (n_samples,) or (n_samples, n_outputs), in
            squared units of y; total = aleatoric + epistemic by the law of total variance.
        """
        parts = self._summarize(X, lambda mixture: np.stack(mixture.uncertainty(), axis=-1))
        return Uncertainty(*np.moveaxis(parts, -1, 0))

    @says_coverage
    def predict_quantiles(self, X, quantiles=(0.05, 0.5, 0.95)):
        """Quantiles of the predictive mixture.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
            Levels strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_outputs, n_quantiles)
            In y's units.
        """
        levels = check_levels("quantiles", quantiles, "For the median pass quantiles=0.5.")
        return self._summarize(X, lambda mixture: mixture.ppf(np.atleast_1d(levels)))

    @says_coverage
    def predict_interval(self, X, coverage=0.9):
        """Central prediction interval, noise included.

        Fitted with ``calibration="conformal"``: mean ± as many standard deviations as held-out rows say are needed for
        `coverage`, cut off at the ends of the likelihood's support.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        coverage : float or sequence of float, default=0.9
            Probability inside the interval, strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper ends in y's units; a sequence of coverages adds a last axis.

        Raises
        ------
        ValueError
            If rows were held out for calibration, and are too few for `coverage`.
        """
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        scores = self._fitted_conformal()
        if scores is not None:
            band = Band.around(*self.predict(X, return_std=True))
            each = [conformal_interval([band], scores, level) for level in np.atleast_1d(levels).tolist()]
            interval = np.stack(each, axis=-1) if levels.ndim else each[0]
            interval = interval[:, 0] if self._single_output else interval
            return np.clip(interval, *self._state.likelihood.support)
        tails = np.stack([0.5 - levels / 2, 0.5 + levels / 2])
        ends = self._summarize(X, lambda mixture: mixture.ppf(tails.ravel()))
        return ends.reshape(*ends.shape[:-1], *tails.shape)

    def predict_dist(self, X) -> PredictiveMixture:
        """Predictive mixture itself, with the methods of a frozen ``scipy.stats`` distribution.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        PredictiveMixture
            Holds all draws of all rows: 8 bytes · n_draws · n_samples for each parameter.
        """
        X = self._check_rows(X)
        parts = list(self._mixtures(X))
        joined = {
            name: np.concatenate([part.parameters[name] for part in parts], axis=1) for name in parts[0].parameters
        }
        model_variance = None
        if parts[0].model_variance is not None:
            model_variance = np.concatenate([part.model_variance for part in parts])
        return PredictiveMixture(self._state.likelihood, joined, self._single_output, model_variance)

    def sample_y(self, X, n_samples=1, random_state=0):
        """Sample targets; all rows of one sample share a draw, so each sample is one coherent function plus noise.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)
            In y's units.
        """
        X = self._check_rows(X)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(random_state)
        choose = self._function_sampler(n_samples, rng)
        samples = []
        exposure, start = self._exposure(X), 0
        for rows in self._chunks(X):
            chosen = self._exposed(choose(rows), exposure, start)
            start += len(rows)
            samples.append(np.moveaxis(self._state.likelihood.rvs(chosen.parameters, rng), 0, -1))
        sample = np.concatenate(samples)
        return sample[:, 0] if self._single_output else sample

    def _function_sampler(self, n_samples, rng):
        """Function from standardised rows to a mixture whose draws are `n_samples` functions chosen at random."""
        which = rng.randint(self._n_draws(), size=n_samples)

        def choose(rows):
            mixture = self._mixture(rows)
            parameters = {name: value[which] for name, value in mixture.parameters.items()}
            return PredictiveMixture(mixture.likelihood, parameters, self._single_output)

        return choose


def check_multiples(z, likelihood):
    """Raise ValueError where multiples of the mean are not numbers that float32 tells from zero and infinity."""
    limit = 1e37
    if not np.all((z == 0) | ((np.abs(z) >= 1 / limit) & (np.abs(z) <= limit))):
        raise ValueError(
            f"The {type(likelihood).__name__} likelihood holds targets between 1e-37 and 1e37 times their mean, got y between "
            f"{np.min(z):.3g} and {np.max(z):.3g} times its mean. Use likelihood='lognormal', which is trained on log y."
        )
