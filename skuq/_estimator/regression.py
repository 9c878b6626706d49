"""What regression adds to a method: the likelihood, targets, and predictions in y's units."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import RegressorMixin, clone
from sklearn.utils import check_array, check_random_state, check_scalar
from sklearn.utils._param_validation import StrOptions

from .._data.folds import Part
from .._model.heads import link_parameters
from .._prediction.conformal import Band, columns, conformal_interval
from .._prediction.distributions import PredictiveMixture, Uncertainty
from .._training.members import MAX_HELD_OUT, Members
from .._training.noise import NOTICEABLE, ensemble_factor, fit_siblings, scale_limit
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from ..likelihoods import NAMED, Likelihood, resolve_likelihood
from .parameters import estimator, parameter
from .state import Noise, Output, Problem, Stretch
from .targets import Values, exposure_column, exposures_of

if TYPE_CHECKING:
    from .base import Estimator as Base
else:
    Base = object

Summary = Callable[[PredictiveMixture], np.ndarray]


def _mean_and_std(mixture: PredictiveMixture) -> np.ndarray:
    return np.stack([mixture.mean(), mixture.std()], axis=-1)


@estimator
class RegressorTask(RegressorMixin, Base):
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        tags.input_tags.sparse = True
        given = self.likelihood
        family = NAMED[given]() if isinstance(given, str) and given in NAMED else given
        if isinstance(family, Likelihood):
            tags.target_tags.positive_only = family.support[0] >= 0
        return tags

    def _read_target(self, y: Any, sample_weight: np.ndarray) -> tuple[Values, np.ndarray]:
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")  # None in y becomes NaN here
        likelihood = clone(resolve_likelihood(self.likelihood))  # changing the parameter later changes no prediction
        likelihood.check_target(y[sample_weight > 0])
        single = y.ndim == 1 or y.shape[1] == 1
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        names = getattr(self, "feature_names_in_", None)
        exposure = exposure_column(likelihood, self.n_features_in_, names)
        return Values(likelihood=likelihood, exposure=exposure, single=single), y

    def _fit_noise(self, problem: Problem, members: Members, parameters: np.ndarray) -> tuple[Noise, float]:
        noise, spread = self._fit_scale(problem, members, parameters)
        return replace(noise, limit=self._scale_limit(problem, members, parameters, noise, spread)), spread

    def _fit_scale(self, problem: Problem, members: Members, parameters: np.ndarray) -> tuple[Noise, float]:
        """What the learned noise becomes, and the share of the draws' spread, that held-out rows ask for."""
        likelihood, rows = family_of(problem.target.output), problem.rows
        if not (likelihood.learns_scale and members.holds_out):
            return Noise(), 1.0
        likelihood = likelihood.on_training_scale()

        held_out = [members.held_out[m] for m in members.scored]
        if len(members.kept) > 1:
            index = np.concatenate([part.rows for part in held_out])
            mixture = self._training_mixture(problem, members, parameters, members.kept, index)
            return Noise.of(*ensemble_factor(likelihood, mixture, rows, held_out)), 1.0
        best_loss, best = np.inf, (Noise(), 1.0)
        for spread in self._auto.spreads:
            mixtures = [
                self._training_mixture(problem, members, parameters, [m], part.rows, spread)
                for m, part in zip(members.scored, held_out, strict=True)
            ]
            factor, power, loss = fit_siblings(likelihood, mixtures, rows, held_out)
            if loss < best_loss - NOTICEABLE:
                best_loss, best = loss, (Noise.of(factor, power), spread)
            elif loss > best_loss:
                break
        return best

    def _scale_limit(
        self, problem: Problem, members: Members, parameters: np.ndarray, noise: Noise, spread: float
    ) -> np.ndarray:
        """Largest noise scale, (1, 1, n_outputs), that held-out rows support; infinite but for a log-normal."""
        target, likelihood = problem.target, family_of(problem.target.output)
        if not (likelihood.target_transform == "log" and target.head.scales_loss):
            return np.full((1, 1, 1), np.inf)
        networks, parts = members.scored, [members.held_out[m] for m in members.scored]
        if not members.holds_out:
            n_rows = len(problem.rows.weight)
            networks, parts = members.kept[:1], [Part(np.arange(0, n_rows, -(-n_rows // MAX_HELD_OUT)))]
        mixtures = []
        for m, part in zip(networks, parts, strict=True):
            own = self._training_mixture(problem, members, parameters, [m], part.rows, spread)
            mixtures.append({**own, "scale": noise.of_scale(own["scale"])})
        return scale_limit(likelihood.on_training_scale(), mixtures, problem.rows, parts, target.standardizer.scale)

    def _training_mixture(
        self,
        problem: Problem,
        members: Members,
        parameters: np.ndarray,
        networks: Any,
        index: np.ndarray,
        spread: float = 1.0,
    ) -> dict[str, np.ndarray]:
        """Likelihood parameters that the draws of some networks give training rows, (n_draws, n_rows, n_outputs)."""
        draws = self._posterior(problem, parameters[networks], spread).draws()
        raw, constants = draws.raw(problem.rows.take(index))
        return link_parameters(problem.target.head, raw, constants, problem.target.fixed)

    # Predictions.

    def _mixture(self, X: Stretch) -> PredictiveMixture:
        """Mixture of the draws for standardised rows."""
        output = self._state.output
        raw, constants = self._state.posterior.draws().raw(X)
        return self._as_mixture(link_parameters(output.head, raw, constants, output.fixed))

    def _as_mixture(
        self, parameters: dict[str, np.ndarray], model_variance: np.ndarray | None = None
    ) -> PredictiveMixture:
        """Parameters in standardised units → mixture in y's units."""
        output, noise = self._state.output, self._state.noise
        likelihood = family_of(output)
        if likelihood.learns_scale:
            parameters = {**parameters, "scale": noise.of_scale(parameters["scale"])}
        y = output.standardizer
        parameters = likelihood.to_target_units(parameters, y.shift, y.scale)
        return PredictiveMixture(likelihood, parameters, output.single, model_variance)

    def _summarize(self, X: Any, summary: Summary) -> np.ndarray:
        """Apply `summary` to the mixture of each stretch of rows and join the results."""
        return self._summarize_checked(self._check_rows(X), summary)

    def _summarize_checked(self, X: Any, summary: Summary) -> np.ndarray:
        """The same for rows that are validated already."""
        return np.concatenate([summary(mixture) for mixture in self._mixtures(X, self._mixture)])

    def _mixtures(self, X: Any, mixture_of: Callable[[Stretch], PredictiveMixture]) -> Iterator[PredictiveMixture]:
        """Mixtures of stretches of validated rows, each row for its own exposure."""
        output, start = self._state.output, 0
        exposure = exposures_of(X, output.exposure, family_of(output))
        for rows in self._state.stretches(X):
            mixture = mixture_of(rows)
            if exposure is not None:
                own = exposure[start : start + mixture.shape[1], None]
                parameters = output.head.exposed(mixture.parameters, own)
                mixture = PredictiveMixture(mixture.likelihood, parameters, output.single, mixture.model_variance)
            yield mixture
            start += len(rows)

    def _conformity_scores(self, X: Any, y: np.ndarray) -> np.ndarray:
        """Scores of validated rows that the model has not seen: their errors in its standard deviations."""
        mean, std = np.moveaxis(self._summarize_checked(X, _mean_and_std), -1, 0)
        return Band.around(mean, std).scores(columns(y))

    def predict(self, X: Any, return_std: bool = False) -> Any:
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

    def predict_uncertainty(self, X: Any) -> Uncertainty:
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
    def predict_quantiles(self, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
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
    def predict_interval(self, X: Any, coverage: Any = 0.9) -> np.ndarray:
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
        state = self._fitted_state()
        scores = state.calibration.conformal
        if scores is not None:
            band = Band.around(*self.predict(X, return_std=True))
            each = [conformal_interval([band], scores, level) for level in np.atleast_1d(levels).tolist()]
            interval = np.stack(each, axis=-1) if levels.ndim else each[0]
            interval = interval[:, 0] if state.output.single else interval
            return np.clip(interval, *family_of(state.output).support)
        tails = np.stack([0.5 - levels / 2, 0.5 + levels / 2])
        ends = self._summarize(X, lambda mixture: mixture.ppf(tails.ravel()))
        return ends.reshape(*ends.shape[:-1], *tails.shape)

    def predict_dist(self, X: Any) -> PredictiveMixture:
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
        parts = list(self._mixtures(X, self._mixture))
        joined = {
            name: np.concatenate([part.parameters[name] for part in parts], axis=1) for name in parts[0].parameters
        }
        model_variance = None
        if parts[0].model_variance is not None:
            model_variance = np.concatenate([part.model_variance for part in parts])
        return PredictiveMixture(parts[0].likelihood, joined, self._state.output.single, model_variance)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
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
        for chosen in self._mixtures(X, choose):
            samples.append(np.moveaxis(chosen.likelihood.rvs(chosen.parameters, rng), 0, -1))
        sample = np.concatenate(samples)
        return sample[:, 0] if self._state.output.single else sample

    def _function_sampler(self, n_samples: int, rng: np.random.RandomState) -> Callable[[Stretch], PredictiveMixture]:
        """Function from standardised rows to a mixture whose draws are `n_samples` functions chosen at random."""
        which = rng.randint(self._state.posterior.n_draws, size=n_samples)

        def choose(rows: Stretch) -> PredictiveMixture:
            mixture = self._mixture(rows)
            parameters = {name: value[which] for name, value in mixture.parameters.items()}
            return PredictiveMixture(mixture.likelihood, parameters, self._state.output.single)

        return choose


def family_of(output: Output) -> Likelihood:
    """The likelihood, which a regressor always has."""
    return cast(Likelihood, output.likelihood)
