"""Spectral-normalised neural Gaussian processes (Liu et al. 2020, arXiv:2006.10108)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from scipy import special
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ._data.encoding import Encoding
from ._data.folds import Part
from ._estimator.auto import AUTO
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, inherited, parameter
from ._estimator.regression import RegressorTask, family_of
from ._estimator.state import Output, Problem, Stretch
from ._model.draws import Draws
from ._model.gaussian_process import RandomFeatureGP, posterior_mean
from ._model.heads import Head, link_parameters
from ._model.network import Network
from ._model.posteriors import GaussianProcess
from ._prediction.distributions import (
    PredictiveMixture,
    Uncertainty,
    class_probabilities,
    class_uncertainty,
    entropy,
    mean_field_logits,
)
from ._training.members import Members
from .backends import Knobs, Program
from .likelihoods import Normal

_POSITIVE = Interval(Real, 0, None, closed="neither")


@estimator
class _SNGP(Estimator):
    """A distance-preserving network under a Gaussian process on random features."""

    hidden_layer_sizes: tuple[int, ...] = parameter(
        (64, 64),
        ["array-like", Interval(Integral, 1, None, closed="left")],
        """tuple of int
        Widths of the residual layers; () puts the Gaussian process on the inputs themselves.""",
    )
    architecture: str = parameter(
        "resnet",
        [StrOptions({"mlp", "resnet"})],
        """{"mlp", "resnet"}
        Residual layers h + act(hW + b) of one common width after a linear projection, which keep distances (the method's
        own architecture), or plain layers.""",
    )
    input_projection: str = parameter(
        "auto",
        [StrOptions({"auto", "random", "trained"})],
        """{"auto", "random", "trained"}
        Projection of a resnet's inputs to its width. "random": fixed and orthonormal, so that it keeps distances, exactly as
        long as the width is no less than the number of features. "trained": selects features, but may also fold the inputs
        together. "auto": random where the width holds all features; trained where some of them must be given up.""",
    )
    spec_norm_bound: float | None = parameter(
        0.95,
        [_POSITIVE, None],
        """float > 0 or None
        Largest spectral norm of a hidden kernel; None leaves kernels free.""",
    )
    n_inducing: int = parameter(
        1024,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Number of random Fourier features.""",
    )
    kernel_scale: float = parameter(
        1.0,
        [_POSITIVE],
        """float > 0
        Squared length scale of the Gaussian kernel on the hidden state: exp(−‖h − h'‖² / (2 · kernel_scale)).""",
    )
    ridge_penalty: float = parameter(
        1.0,
        [_POSITIVE],
        """float > 0
        s, the prior precision of β in its posterior's, s·I + Σ w ΦΦᵀ. The variance far from the data stays ‖Φ‖² ≈ 1; a larger
        s lets each row shrink it less, and the mean follow each row less.""",
    )
    n_draws: int = parameter(
        100,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Points of the Gaussian posterior where no closed form exists: intervals and the split of the entropy of a
        classifier, and likelihoods other than the normal.""",
    )

    def _network(
        self, n_features: int, encoding: Encoding, sizes: tuple[int, ...], head: Head, is_table: bool
    ) -> Network:
        network = super()._network(n_features, encoding, sizes, head, is_table)
        lossless = network.n_inputs <= network.hidden_width
        frozen = lossless if self.input_projection == "auto" else self.input_projection == "random"
        return replace(network, n_inducing=self.n_inducing, frozen_projection=frozen)

    def _features(self, network: Network, seed: np.random.SeedSequence) -> dict[str, np.ndarray]:
        return network.initial_random_features(np.random.default_rng(seed), self.kernel_scale)

    def _program(self, network: Network) -> Program:
        spectral = self.spec_norm_bound is not None and bool(network.hidden_kernels)
        return Program(network, dropout=self.dropout_rate > 0, l1=self._l1, spectral_norm=spectral)

    def _knobs(self, problem: Problem) -> Knobs:
        return replace(super()._knobs(problem), spec_norm_bound=self.spec_norm_bound or 1.0)

    @abstractmethod
    def _curvature(self, problem: Problem, draws: Draws, X: Any, y: np.ndarray) -> np.ndarray:
        """Weight of each row in each precision, (n_rows, n_precisions): −∂² log p / ∂(latent)²."""

    def _posterior(
        self, problem: Problem, parameters: np.ndarray, spread: float = 1.0, part: Part | None = None
    ) -> GaussianProcess:
        """The process after some of the training rows, or after all."""
        rows, network = problem.rows, problem.network
        part = Part(np.arange(len(rows.weight))) if part is None else part
        draws, X = Draws(network, parameters, problem.features), rows.take(part.rows)
        weight = part.weights(rows.weight)[:, None] * self._curvature(problem, draws, X, rows.y[part.rows])
        return GaussianProcess(
            network=network,
            parameters=parameters,
            features=problem.features,
            dropout_rate=self.dropout_rate,
            covariance=RandomFeatureGP.fit(draws.random_features(X), weight, self.ridge_penalty),
            count=self.n_draws,
            spec_norm_bound=self.spec_norm_bound,
        )

    def _finish(self, problem: Problem, parameters: np.ndarray, spread: float) -> GaussianProcess:
        return self._posterior(problem, self._bounded(problem.network, parameters), spread)

    def _bounded(self, network: Network, parameters: np.ndarray) -> np.ndarray:
        if self.spec_norm_bound is None:
            return parameters
        return bound_spectral_norms(network, parameters, self.spec_norm_bound)

    @property
    def _process(self) -> GaussianProcess:
        return cast(GaussianProcess, self._state.posterior)

    def latent_mean_and_variance(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the Gaussian process under the likelihood.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        mean : ndarray of shape (n_samples, n_latent)
            Logits before any temperature (one for two classes, else one a class), or the likelihood's raw parameters in
            standardised units.
        variance : ndarray of shape (n_samples, 1 or n_latent)
            Predictive variance s·Φ(x) P⁻¹ Φ(x)ᵀ, shared by all logits or one for each.
        """
        X = self._check_rows(X)
        pairs = [self._process.moments(rows) for rows in self._state.stretches(X)]
        return np.concatenate([mean for mean, _ in pairs]), np.concatenate([variance for _, variance in pairs])


def bound_spectral_norms(network: Network, parameters: np.ndarray, bound: float) -> np.ndarray:
    """Scale hidden kernels back to the bound exactly; the power iteration of training holds it to a few percent."""
    bounded = parameters.copy()
    views = network.views(bounded)
    for tensor in network.hidden_kernels:
        for kernel in views[tensor.name]:
            norm = np.linalg.norm(kernel, 2)
            if norm > bound:
                kernel *= bound / norm
    return bounded


@estimator
class SNGPRegressor(RegressorTask, _SNGP):
    """Spectral-normalised neural Gaussian process regressor.

    A residual network with bounded spectral norms keeps distances between rows; on its last hidden state stands a Gaussian
    process by random Fourier features (Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic
    Deep Learning via Distance Awareness"). After training one exact pass gives its output weights and their covariance, as
    Bayesian linear regression on Φ with the learned noise has them (another likelihood than the normal keeps the trained
    output weights). Far from the data the epistemic variance returns to the
    prior's.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import SNGPRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = SNGPRegressor(n_inducing=128, max_iter=20, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> near, far = model.predict_uncertainty([[0.0], [50.0]]).epistemic
    >>> bool(far > 10 * near)
    True
    """

    _auto = AUTO["SNGPRegressor"]

    # Regression gains more from a projection that weighs the features than it loses in distance awareness.
    input_projection: str = parameter(
        "trained",
        [StrOptions({"auto", "random", "trained"})],
        """{"auto", "random", "trained"}
        Projection of a resnet's inputs to its width. "trained": weighs and selects features. "random": fixed and orthonormal,
        which keeps distances but knows nothing of the target. "auto": random where the width holds all features, else
        trained.""",
    )

    def _refine(self, problem: Problem, members: Members, parameters: np.ndarray) -> np.ndarray:
        """With a normal likelihood, β in closed form: the posterior mean of each network's Gaussian process."""
        target = problem.target
        if type(target.likelihood) is not Normal:
            return parameters
        refined = self._bounded(problem.network, parameters)
        beta = problem.network.views(refined)[problem.network.output_kernel.name]
        for m, part in enumerate(members.training):
            X, y, weight = problem.rows.take(part.rows), problem.rows.y[part.rows], part.weights(problem.rows.weight)
            draws = Draws(problem.network, refined[[m]], problem.features)
            raw, constants = draws.raw(X)
            scale = link_parameters(target.head, raw, constants, target.fixed)["scale"][0]
            features = draws.random_features(X)
            for j in range(target.head.n_outputs):
                information = weight / np.broadcast_to(scale, y.shape)[:, j] ** 2
                beta[m][:, j] = posterior_mean(features, y[:, j], information, self.ridge_penalty)
        return refined

    def _training_mixture(
        self,
        problem: Problem,
        members: Members,
        parameters: np.ndarray,
        networks: Any,
        index: np.ndarray,
        spread: float = 1.0,
    ) -> dict[str, np.ndarray]:
        """As predicted after the network's own training rows: each latent location with its posterior's quantiles."""
        process = self._posterior(problem, parameters[networks], spread, members.training[networks[0]])
        return quantile_parameters(process, problem.target.output, problem.rows.take(index))

    def _curvature(self, problem: Problem, draws: Draws, X: Any, y: np.ndarray) -> np.ndarray:
        """Fisher information of each target's location at the trained parameters, (n_rows, n_outputs).

        The factor of the noise does not enter: it was found beside a variance that did not know it.
        """
        raw, constants = draws.raw(X)
        target, likelihood = problem.target, family_of(problem.target.output)
        parameters, _ = target.head.of_rows(link_parameters(target.head, raw, constants, target.fixed), y)
        information = likelihood.on_training_scale().location_information(parameters)
        return np.broadcast_to(information, (1, len(raw[0]), target.head.n_outputs))[0]

    def _mixture(self, X: Stretch) -> PredictiveMixture:
        process, output = self._process, self._state.output
        likelihood = family_of(output)
        if type(likelihood) is not Normal:
            return self._as_mixture(quantile_parameters(process, output, X))
        mean, variance = process.moments(X)
        mixture = self._as_mixture(link_parameters(output.head, mean[None], process.constants, output.fixed))
        model_variance = variance * output.standardizer.scale**2
        scale = np.sqrt(mixture.parameters["scale"] ** 2 + model_variance)
        return PredictiveMixture(likelihood, {**mixture.parameters, "scale": scale}, output.single, model_variance)

    def _function_sampler(self, n_samples: int, rng: np.random.RandomState) -> Callable[[Stretch], PredictiveMixture]:
        process, output = self._process, self._state.output
        latent, constants = process.sampled(n_samples, rng), process.constants
        return lambda rows: self._as_mixture(link_parameters(output.head, latent(rows), constants, output.fixed))


def quantile_parameters(process: GaussianProcess, output: Output, rows: Stretch) -> dict[str, np.ndarray]:
    """Likelihood parameters at equally likely quantiles of the latent locations, (n_draws, n_rows, n_outputs)."""
    mean, variance = process.moments(rows)
    nodes = special.ndtri((np.arange(process.count) + 0.5) / process.count)[:, None, None]
    raw = np.repeat(mean[None], process.count, axis=0)
    raw[..., : output.head.n_outputs] += nodes * np.sqrt(variance)
    return link_parameters(output.head, raw, process.constants, output.fixed)


@estimator
class SNGPClassifier(ClassifierTask, _SNGP):
    """Spectral-normalised neural Gaussian process classifier.

    A residual network with bounded spectral norms keeps distances between rows; on its last hidden state stands a Gaussian
    process by random Fourier features (Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic
    Deep Learning via Distance Awareness"). After training one exact pass gives the posterior of its output weights (the
    Laplace approximation), and far from the data probabilities return to even.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Notes
    -----
    ``predict_proba`` is the mean-field approximation softmax(logits / √(1 + λ v)); a temperature divides these
    logits too. The entropy of these probabilities is the total of ``predict_uncertainty``; it is split in the proportion
    that draws from the posterior give.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skuq import SNGPClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = SNGPClassifier(n_inducing=128, max_iter=20, random_state=0).fit(X, y)
    >>> bool(model.predict_proba([[50.0, -50.0]]).max() < 0.95)
    True
    """

    _auto = AUTO["SNGPClassifier"]

    kernel_scale: float = parameter(
        2.0,
        [_POSITIVE],
        """float > 0
        Squared length scale of the Gaussian kernel on the hidden state: exp(−‖h − h'‖² / (2 · kernel_scale)).""",
    )
    ridge_penalty: float = parameter(
        0.1,
        [_POSITIVE],
        """float > 0
        s, the prior precision of β: in training, where the loss of all rows gains ½ · s · ‖β‖², and in the precision
        s·I + Σ w ΦΦᵀ of the posterior. A larger s is less sure everywhere; the variance far from the data stays ‖Φ‖² ≈ 1.""",
    )
    mean_field_factor: float = parameter(
        np.pi / 8,
        [Interval(Real, 0, None, closed="left")],
        """float ≥ 0
        λ of softmax(logits / √(1 + λ v)); π/8 is the probit approximation, 0 ignores the variance.""",
    )
    covariance: str = parameter(
        "shared",
        [StrOptions({"shared", "per_class"})],
        """{"shared", "per_class"}
        One precision s·I + Σ ΦΦᵀ for all logits, as tf-models-official has it, or Laplace's own for each logit,
        s·I + Σ p(1 − p) ΦΦᵀ.""",
    )

    validation_fraction: float = inherited(_SNGP, "validation_fraction", 0.15)

    def _knobs(self, problem: Problem) -> Knobs:
        # The loss is a mean over rows: the share of the prior in it.
        return replace(super()._knobs(problem), ridge=self.ridge_penalty / problem.target.weight.sum())

    def _curvature(self, problem: Problem, draws: Draws, X: Any, y: np.ndarray) -> np.ndarray:
        """Weights of the rows in each precision, (n_rows, 1) or (n_rows, n_latent)."""
        if self.covariance == "shared":
            return np.ones((X.shape[0], 1))
        p = class_probabilities(draws.raw(X)[0][0])[:, -problem.target.head.n_outputs :]
        return p * (1 - p)

    def _finish(self, problem: Problem, parameters: np.ndarray, spread: float) -> GaussianProcess:
        return replace(super()._finish(problem, parameters, spread), mean_field_factor=self.mean_field_factor)

    def predict_proba(self, X: Any, return_variance: bool = False) -> Any:
        """Predictive class probabilities softmax(logits / √(1 + λ v)), and v if asked for.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_variance : bool, default=False
            Whether to return the variance of the logits too; both come from one pass over the rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        variance : ndarray of shape (n_samples, 1 or n_latent)
            Only with ``return_variance``: v, as :meth:`latent_mean_and_variance` has it.
        """
        if not return_variance:
            return super().predict_proba(X)
        mean, variance = self.latent_mean_and_variance(X)
        return self._probabilities(*self._tempered(mean, variance)), variance

    def _tempered(self, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean-field logits, and by what factor they are closer to 0 than the latent means."""
        factor = self._process.mean_field_factor
        return mean_field_logits(mean, variance, factor), mean_field_logits(1.0, variance, factor)

    def _predictive_logits(self, X: Stretch) -> tuple[np.ndarray, np.ndarray]:
        logits, tempering = self._tempered(*self._process.moments(X))
        return logits[None], tempering

    def _mean_probabilities(self, X: Stretch) -> np.ndarray:
        return self._probabilities(*self._tempered(*self._process.moments(X)))

    def _draw_probabilities(self, X: Stretch) -> np.ndarray:
        return self._draw_and_mean_probabilities(X)[0]

    def _draw_and_mean_probabilities(self, X: Stretch) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self._process.moments(X)
        # The same standard normal points for every row: results depend on the row alone.
        nodes = check_random_state(0).normal(size=(self._process.count, 1, mean.shape[1]))
        drawn = self._probabilities(mean + nodes * np.sqrt(variance))
        return drawn, self._probabilities(*self._tempered(mean, variance))

    def _uncertainty(self, X: Stretch) -> Uncertainty:
        drawn, mean = self._draw_and_mean_probabilities(X)
        draws, total = class_uncertainty(drawn), entropy(mean)
        aleatoric = total * np.divide(draws.aleatoric, draws.total, out=np.ones_like(total), where=draws.total > 0)
        return Uncertainty(total, aleatoric, total - aleatoric)

    def _function_sampler(self, n_samples: int, rng: np.random.RandomState) -> Callable[[Stretch], np.ndarray]:
        latent = self._process.sampled(n_samples, rng)
        return lambda rows: self._probabilities(latent(rows))
