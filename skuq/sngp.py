"""Spectral-normalised neural Gaussian processes (Liu et al. 2020, arXiv:2006.10108)."""

from dataclasses import replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from scipy import special
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ._data.folds import Part
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, inherited, parameter
from ._estimator.regression import RegressorTask
from ._model.draws import Draws, working_type
from ._model.gaussian_process import RandomFeatureGP, posterior_mean
from ._model.network import Network
from ._model.threads import borrowed_scratch
from ._prediction.distributions import (
    PredictiveMixture,
    Uncertainty,
    class_probabilities,
    class_uncertainty,
    entropy,
    mean_field_logits,
)
from .backends import Program
from .likelihoods import Normal, link_parameters

_POSITIVE = Interval(Real, 0, None, closed="neither")
# Rows that each different one stands for, above which a network that fits each exactly errs by less than 1/50 nat a row.
MANY_COPIES = 25


@estimator
class _SNGP(Estimator):
    """A distance-preserving network under a Gaussian process on random features."""

    hidden_layer_sizes: tuple = parameter(
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

    # Random features make each sibling dear; two say when to stop well enough.
    _n_siblings = 2
    _predicts_with: ClassVar[tuple] = ("n_draws", "ridge_penalty")

    def _network(self, n_features, encoding, sizes, head):
        network = super()._network(n_features, encoding, sizes, head)
        lossless = network.n_inputs <= network.hidden_width
        frozen = lossless if self.input_projection == "auto" else self.input_projection == "random"
        return replace(network, n_inducing=self.n_inducing, frozen_projection=frozen)

    def _program(self, network):
        spectral = self.spec_norm_bound is not None and bool(network.hidden_kernels)
        return Program(network, dropout=self.dropout_rate > 0, l1=self._l1, spectral_norm=spectral)

    def _knobs(self, problem):
        return replace(super()._knobs(problem), spec_norm_bound=self.spec_norm_bound or 1.0)

    def _features(self, network, seed):
        return network.initial_random_features(np.random.default_rng(seed), self.kernel_scale)

    def _finish(self, problem, noise_scale, spread, parameters):
        parameters = self._bounded(problem.network, parameters)
        draws = self._draws(problem, parameters)
        everything = Part(np.arange(len(problem.rows.weight)))
        self._set_state(problem, noise_scale, parameters, draws, self._posterior(problem, draws, everything))

    def _posterior(self, problem, draws, part: Part) -> RandomFeatureGP:
        """Covariance of β after some of the training rows."""
        rows = problem.rows
        X = rows.take(part.rows)
        weight = part.weights(rows.weight)[:, None] * self._curvature(problem, draws, X, rows.y[part.rows])
        return RandomFeatureGP.fit(draws.random_features(X), weight, self.ridge_penalty)

    def _bounded(self, network, parameters):
        if self.spec_norm_bound is None:
            return parameters
        return bound_spectral_norms(network, parameters, self.spec_norm_bound)

    def _latent(self, rows):
        """Moments of standardised rows, see :func:`latent_moments`."""
        return latent_moments(self._state.draws, self._state.extra, rows)

    def latent_mean_and_variance(self, X):
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
        pairs = [self._latent(rows)[:2] for rows in self._chunks(X)]
        return np.concatenate([mean for mean, _ in pairs]), np.concatenate([variance for _, variance in pairs])

    def _n_draws(self):
        return self._state.settings["n_draws"]

    def _sampled_latent(self, n_samples, rng):
        """Function from standardised rows to latent values (n_samples, n_rows, n_raw) of coherent draws of β."""
        state = self._state
        kernel = state.network.views(state.parameters)[state.network.output_kernel.name].astype(float)
        n_uncertain = self._n_uncertain()
        noise = rng.normal(size=(n_samples, state.network.n_inducing, n_uncertain))
        beta = np.repeat(kernel, n_samples, axis=0)
        beta[:, :, :n_uncertain] += state.extra.draw(noise)
        return lambda rows: state.draws.random_features(rows) @ beta

    def _export(self):
        return replace(
            super()._export(),
            spec_norm_bound=self.spec_norm_bound,
            ridge_penalty=self._state.settings["ridge_penalty"],
            precision=self._state.extra.precision(self._state.network.n_inducing),
            mean_field_factor=self._state.settings.get("mean_field_factor", 0.0),
        )

    def _import(self, fitted):
        super()._import(fitted)
        self._state = replace(self._state, extra=RandomFeatureGP.from_precision(fitted.precision, fitted.ridge_penalty))


def latent_moments(draws: Draws, posterior: RandomFeatureGP, rows: np.ndarray):
    """Mean (n_rows, n_raw), variance (n_rows, n_precisions) and raw constants (1, n_constants) of standardised rows."""
    views = draws.network.views(draws.weights[:1])
    beta = views[draws.network.output_kernel.name][0].astype(float)
    with borrowed_scratch("factors") as kept:
        moments = posterior.moments(beta, draws.network.feature_scale, working_type(draws.network), kept)
        both = draws.of_cosines(rows, moments, beta.shape[1] + len(posterior.directions))
    return both[:, : beta.shape[1]], both[:, beta.shape[1] :], draws.network.constants(draws.weights[:1]).astype(float)


def bound_spectral_norms(network: Network, parameters: np.ndarray, bound: float) -> np.ndarray:
    """Scale hidden kernels back to the bound exactly; the power iteration of training holds it to a few percent."""
    bounded = parameters.copy()
    views = network.views(bounded)
    for tensor in network.hidden_kernels:
        for kernel in views[tensor.name]:
            kernel *= min(1.0, bound / max(np.linalg.norm(kernel, 2), np.finfo(np.float32).tiny))
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

    # Regression gains more from a projection that weighs the features than it loses in distance awareness.
    input_projection: str = parameter(
        "trained",
        [StrOptions({"auto", "random", "trained"})],
        """{"auto", "random", "trained"}
        Projection of a resnet's inputs to its width. "trained": weighs and selects features. "random": fixed and orthonormal,
        which keeps distances but knows nothing of the target. "auto": random where the width holds all features, else
        trained.""",
    )

    _auto_learning_rate = 0.01
    _auto_steps = 200

    def _encodes(self):
        # The kernel's distances are to be those of the features.
        return False

    def _refine(self, problem, members, parameters):
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

    def _training_mixture(self, problem, members, parameters, networks, index, spread=1.0):
        """As predicted after the network's own training rows: each latent location with its posterior's quantiles."""
        draws = self._draws(problem, parameters[networks])
        posterior = self._posterior(problem, draws, members.training[networks[0]])
        mean, variance, constants = latent_moments(draws, posterior, problem.rows.take(index))
        raw = self._spread(mean, variance, problem.target.head.n_outputs, self.n_draws)
        return link_parameters(problem.target.head, raw, constants, problem.target.fixed)

    @staticmethod
    def _spread(mean, variance, n_outputs, n_draws):
        """Equally likely quantiles of Gaussian latent locations, (n_draws, n_rows, n_raw)."""
        nodes = special.ndtri((np.arange(n_draws) + 0.5) / n_draws)[:, None, None]
        raw = np.repeat(mean[None], n_draws, axis=0)
        raw[..., :n_outputs] += nodes * np.sqrt(variance)
        return raw

    def _curvature(self, problem, draws, X, y):
        """Fisher information of each target's location at the trained parameters, (n_rows, n_outputs).

        The factor of the noise does not enter: it was found beside a variance that did not know it.
        """
        raw, constants = draws.raw(X)
        target = problem.target
        parameters, _ = target.head.of_rows(link_parameters(target.head, raw, constants, target.fixed), y)
        information = target.likelihood.on_training_scale().location_information(parameters)
        return np.broadcast_to(information, (1, len(raw[0]), target.head.n_outputs))[0]

    def _n_uncertain(self):
        return self._state.head.n_outputs

    def _mixture(self, X):
        state = self._state
        mean, variance, constants = self._latent(X)
        if type(state.likelihood) is Normal:
            parameters = link_parameters(state.head, mean[None], constants, state.fixed)
            mixture = self._as_mixture(parameters)
            model_variance = variance * state.y_standardizer.scale**2
            scale = np.sqrt(mixture.parameters["scale"] ** 2 + model_variance)
            return PredictiveMixture(
                state.likelihood, {**mixture.parameters, "scale": scale}, self._single_output, model_variance
            )
        raw = self._spread(mean, variance, state.head.n_outputs, self._n_draws())
        return self._as_mixture(link_parameters(state.head, raw, constants, state.fixed))

    def _function_sampler(self, n_samples, rng):
        state = self._state
        latent = self._sampled_latent(n_samples, rng)
        constants = state.network.constants(state.parameters).astype(float)
        return lambda rows: self._as_mixture(link_parameters(state.head, latent(rows), constants, state.fixed))


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

    # A second network would double the time of a fit.
    _auto_early_stopping = True
    _auto_steps = 40
    _predicts_with = (*_SNGP._predicts_with, "mean_field_factor")

    def _early_stopping(self, problem):
        # Texts and other embeddings are told from foreign ones best by a network that was trained on all rows to the end. And
        # where each different row stands for many, there is no noise to fit, while one fold has noise of its own.
        copies = problem.rows.copies
        needless = not problem.is_table or copies.sum(dtype=float) >= MANY_COPIES * len(copies)
        return False if needless and self.early_stopping == "auto" else super()._early_stopping(problem)

    def _pace(self, network):
        # Each step moves the hidden state in proportion to the features that a trained projection adds up: hundreds of them
        # diverge at the rate at which a fixed one needs few steps.
        return super()._pace(network) if network.frozen_projection else (0.003, 200)

    def _knobs(self, problem):
        # The loss is a mean over rows: the share of the prior in it.
        return replace(super()._knobs(problem), ridge=self.ridge_penalty / problem.target.weight.sum())

    def _curvature(self, problem, draws, X, y):
        """Weights of the rows in each precision, (n_rows, 1) or (n_rows, n_latent)."""
        if self.covariance == "shared":
            return np.ones((X.shape[0], 1))
        p = class_probabilities(draws.raw(X)[0][0])[:, -problem.target.head.n_outputs :]
        return p * (1 - p)

    def _n_uncertain(self):
        return self._state.head.n_raw

    def predict_proba(self, X, return_variance=False):
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
        return self._probabilities(self._mean_field(mean, variance), self._mean_field(1.0, variance)), variance

    def _mean_field(self, mean, variance):
        return mean_field_logits(mean, variance, self._state.settings["mean_field_factor"])

    def _predictive_logits(self, X):
        mean, variance, _ = self._latent(X)
        return self._mean_field(mean, variance)[None], self._mean_field(1.0, variance)

    def _mean_probabilities(self, X):
        logits, tempering = self._predictive_logits(X)
        return self._probabilities(logits[0], tempering)

    def _draw_probabilities(self, X):
        return self._draw_and_mean_probabilities(X)[0]

    def _draw_and_mean_probabilities(self, X):
        mean, variance, _ = self._latent(X)
        # The same standard normal points for every row: results depend on the row alone.
        nodes = check_random_state(0).normal(size=(self._n_draws(), 1, mean.shape[1]))
        drawn = self._probabilities(mean + nodes * np.sqrt(variance))
        return drawn, self._probabilities(self._mean_field(mean, variance), self._mean_field(1.0, variance))

    def _uncertainty(self, X):
        draws, mean = self._draw_and_mean_probabilities(X)
        draws, total = class_uncertainty(draws), entropy(mean)
        aleatoric = total * np.divide(draws.aleatoric, draws.total, out=np.ones_like(total), where=draws.total > 0)
        return Uncertainty(total, aleatoric, total - aleatoric)

    def _function_sampler(self, n_samples, rng):
        latent = self._sampled_latent(n_samples, rng)
        return lambda rows: self._probabilities(latent(rows))
