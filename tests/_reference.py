"""A trainer in NumPy, float64, slow and obvious: what ``test_conformance.py`` holds every backend to.

It reads like the steps that ``skuq/backends/_protocol.py`` lists. The gradient is that of the loss by central differences, so it
cannot be wrong where the loss is right; it does not know the least slope of a scale far below its floor
(``skuq/_model/namespace.py``). It stands with the tests, for nobody would train with it.
"""

import numpy as np
from scipy import special, stats

from skuq._model.heads import split_parameters
from skuq._model.namespace import NUMPY
from skuq.backends import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, LONGEST_GRADIENT

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "logistic": special.expit,
    "silu": lambda z: z * special.expit(z),
    "gelu": lambda z: z * stats.norm.cdf(z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(0, z),
}
STEP = 1e-5  # of the central differences
# What float32 may lose of a gradient, as a share of its largest entry.
GRADIENT_ERROR = 2e-5


class Trainer:
    """Keeps the contract of ``skuq.backends.Trainer``; `step` takes the random numbers of a step from whoever drew them.

    Attributes
    ----------
    tolerance : ndarray of shape (M, n_parameters)
        How far float32 may have led each parameter astray: an error e of the gradient moves Adam by rate · e / √v̂.
    """

    def __init__(self, program, parameters, features, knobs, seed, device="cpu"):
        self.program, self.network, self.knobs = program, program.network, knobs
        self.features = {name: np.asarray(array, float) for name, array in features.items()}
        self.fixed = np.asarray(knobs.fixed, float)
        self.rng, self.last = np.random.default_rng(seed), {}
        self.load(parameters)

    def load(self, parameters):
        self.theta = np.array(parameters, float)
        self.first, self.second = np.zeros_like(self.theta), np.zeros_like(self.theta)
        self.square, self.n_updates = np.zeros(len(self.theta)), 0
        self.tolerance = np.zeros_like(self.theta)
        self.left = {}
        for kernel in self.network.hidden_kernels if self.program.spectral_norm else ():
            for m in range(len(self.theta)):
                self.left[kernel.name, m] = self.rng.normal(size=kernel.shape[0])
                for _ in range(10):
                    self._power_iteration(kernel, m)

    def parameters(self):
        return self.theta.astype(np.float32)

    def drawn(self):
        return self.last

    def run(self, X, y, weight, learning_rate):
        losses = [self.step(*batch, self._draw(X.shape[2])) for batch in zip(X, y, weight, learning_rate, strict=True)]
        return np.array(losses, np.float32)

    def _draw(self, n_rows):
        shape = (len(self.theta), self.program.n_train_samples if self.program.posterior else 1)
        self.last = {}
        if self.program.posterior:
            self.last["noise"] = self.rng.normal(size=(*shape, self.network.n_layer_weights))
        if self.program.dropout:
            keep = 1 - self.knobs.dropout_rate
            self.last["masks"] = (self.rng.random((*shape, n_rows, self.network.n_units)) < keep) / keep
        return self.last

    def step(self, X, y, weight, rate, drawn):
        """Take one step; losses before it, (M,)."""
        self.n_updates += 1
        return [
            self._step_of_member(m, X[m], y[m], weight[m], float(rate), {name: a[m] for name, a in drawn.items()})
            for m in range(len(self.theta))
        ]

    def _step_of_member(self, m, X, y, weight, rate, drawn):
        counts = weight > 0
        X, y, weight = (np.asarray(a[counts], float) for a in (X, y, weight))
        if "masks" in drawn:
            drawn = {**drawn, "masks": drawn["masks"][:, counts]}
        theta, t = self.theta[m], self.n_updates

        factor = self._beta_factor(theta, X, y, drawn)
        loss = self._loss(theta[None], factor, X, y, weight, drawn)[0]
        steps = STEP * np.eye(len(theta))
        ahead = self._loss(theta + steps, factor, X, y, weight, drawn)
        behind = self._loss(theta - steps, factor, X, y, weight, drawn)
        gradient = (ahead - behind) / (2 * STEP)
        for tensor in self.network.frozen:
            gradient[tensor.start : tensor.stop] = 0

        length = np.linalg.norm(gradient)
        longest = LONGEST_GRADIENT * np.sqrt(self.square[m] / (1 - ADAM_BETA2 ** (t - 1))) if t > 1 else 0.0
        if length > longest > 0:
            gradient, length = gradient * longest / length, longest
        self.square[m] = ADAM_BETA2 * self.square[m] + (1 - ADAM_BETA2) * length**2

        self.first[m] = ADAM_BETA1 * self.first[m] + (1 - ADAM_BETA1) * gradient
        self.second[m] = ADAM_BETA2 * self.second[m] + (1 - ADAM_BETA2) * gradient**2
        root = np.sqrt(self.second[m] / (1 - ADAM_BETA2**t)) + ADAM_EPSILON
        theta -= rate * self.first[m] / (1 - ADAM_BETA1**t) / root
        self.tolerance[m] += rate * np.minimum(GRADIENT_ERROR * np.abs(gradient).max() / root, 2)
        if self.program.l1:
            threshold = rate * self.knobs.l1 * self.program.kernel_mask / root
            theta[:] = np.sign(theta) * np.maximum(np.abs(theta) - threshold, 0)
        for kernel in self.network.hidden_kernels if self.program.spectral_norm else ():
            norm = self._power_iteration(kernel, m)
            theta[kernel.start : kernel.stop] *= min(1.0, self.knobs.spec_norm_bound / max(norm, 1e-30))
        return loss

    def _power_iteration(self, kernel, m):
        W = self.theta[m, kernel.start : kernel.stop].reshape(kernel.shape)
        right = W.T @ self.left[kernel.name, m]
        left = W @ right / max(np.linalg.norm(right), 1e-30)
        norm = np.linalg.norm(left)
        if norm > 0:
            self.left[kernel.name, m] = left / norm
        return norm

    # The loss, of C candidates for the parameters of one member at once; S weight samples, B rows.

    def _loss(self, thetas, factor, X, y, weight, drawn):
        """Losses of candidates (C, n_parameters), shape (C,)."""
        knobs, network = self.knobs, self.network
        samples = self._weights(thetas, drawn)
        nll = self._negative_log_likelihood(samples, factor, X, y, drawn)
        loss = np.mean(nll @ weight, axis=1)
        if self.program.posterior:
            loss = loss + knobs.kl_weight * self._divergence(thetas, samples, drawn["noise"])
        loss = loss + 0.5 * knobs.l2 * np.sum(self.program.kernel_mask * thetas**2, axis=1)
        if network.n_inducing:
            beta = thetas[:, network.output_kernel.start : network.output_kernel.stop]
            loss = loss + 0.5 * knobs.ridge * np.sum(beta**2, axis=1)
        return loss

    def _weights(self, thetas, drawn):
        """Weight samples, (C, S, n_weights)."""
        posterior = self.program.posterior
        if not posterior:
            return thetas[:, None]
        means, _, constants = posterior.split(thetas)
        noise = drawn["noise"]
        deviations = [
            np.einsum("cij,sj->csi", factor, noise[:, start:stop])
            for (start, stop), factor in zip(posterior.blocks, self._factors(thetas), strict=True)
        ]
        layers = means[:, None] + np.concatenate(deviations, axis=2)
        constants = np.broadcast_to(constants[:, None], (*layers.shape[:2], constants.shape[1]))
        return np.concatenate([layers, constants], axis=2)

    def _factors(self, thetas):
        """Scale matrix of each layer, (C, n, n): of a mean field diagonal, else lower triangular."""
        posterior = self.program.posterior
        _, spreads, _ = posterior.split(thetas)
        factors, used = [], 0
        for start, stop in posterior.blocks:
            size = stop - start
            factor = np.zeros((len(thetas), size, size))
            on_diagonal = np.arange(size)
            rows, columns = (on_diagonal, on_diagonal) if posterior.kind == "mean_field" else np.tril_indices(size)
            factor[:, rows, columns] = spreads[:, used : used + len(rows)]
            factor[:, on_diagonal, on_diagonal] = np.logaddexp(0, factor[:, on_diagonal, on_diagonal])
            factors.append(factor)
            used += len(rows)
        return factors

    def _divergence(self, thetas, samples, noise):
        """KL divergence to the prior, (C,): in closed form, or the mean of log q − log p over the samples."""
        n, knobs = self.network.n_layer_weights, self.knobs
        scale = np.broadcast_to(np.asarray(knobs.prior_scale, float), n)
        factors = self._factors(thetas)
        log_determinant = sum(np.log(np.diagonal(f, axis1=1, axis2=2)).sum(axis=1) for f in factors)
        if self.program.prior == "normal":
            variances = np.concatenate([np.sum(factor**2, axis=2) for factor in factors], axis=1)
            squares = (variances + thetas[:, :n] ** 2) / scale**2
            return 0.5 * np.sum(squares - 1, axis=1) + np.log(scale).sum() - log_determinant
        weights = samples[..., :n]
        components = [stats.norm.logpdf(weights, 0, scale), stats.norm.logpdf(weights, 0, knobs.prior_ratio * scale)]
        shares = np.reshape([knobs.prior_mix, 1 - knobs.prior_mix], (2, 1, 1, 1))
        log_p = special.logsumexp(components, axis=0, b=shares)
        log_q = stats.norm.logpdf(noise).sum(axis=1) - log_determinant[:, None]
        return np.mean(log_q - log_p.sum(axis=2), axis=1)

    def _raw_outputs(self, samples, X, drawn):
        """Raw outputs of the network, (C, S, B, n_raw)."""
        network, act = self.network, ACTIVATIONS[self.network.activation]
        w = {t.name: samples[..., t.start : t.stop].reshape(*samples.shape[:2], *t.shape) for t in network.tensors}

        def dense(h, name):
            return h @ w[f"kernel_{name}"] + w[f"bias_{name}"][..., None, :]

        h = X
        if network.encoding is not None:
            columns = self.features.get("encoded", np.arange(network.n_features)).astype(int)
            parts = self._parts(w, X[:, columns, None])
            h = np.concatenate(
                [np.broadcast_to(X, (*parts.shape[:-3], *X.shape)), parts.reshape(*parts.shape[:-2], -1)], axis=-1
            )
        residual = network.architecture == "resnet"
        if residual and network.hidden_layer_sizes:
            h = dense(h, "in")
        used = 0
        for i, size in enumerate(network.hidden_layer_sizes):
            z = act(dense(h, str(i)))
            if "masks" in drawn:
                z = z * drawn["masks"][..., used : used + size]
            h = h + z if residual else z
            used += size
        if network.n_inducing:
            phi = np.cos(h @ self.features["feature_kernel"] + self.features["feature_bias"])
            return np.sqrt(2 / network.n_inducing) * phi @ w["kernel_out"]
        return dense(h, "out")

    def _parts(self, w, x):
        """What stands beside each encoded column x, (B, n_encoded, 1): (…, B, n_encoded, width)."""
        encoding = self.network.encoding
        if encoding.name == "piecewise_linear":
            slope, offset, lowest, highest = self.features["bins"]
            return np.clip(x * slope + offset, lowest, highest)
        frequencies = self.features["frequency_scale"] * w["frequencies"][..., None, :, :]
        angle = 2 * np.pi * frequencies * x
        return np.sqrt(2 / encoding.size) * np.concatenate([np.sin(angle), np.cos(angle) - 1], axis=-1)

    def _parameters_of_rows(self, samples, X, y, drawn):
        """Named parameters of the likelihood for each row, and its targets."""
        head = self.network.head
        constants = samples[..., samples.shape[2] - head.n_constants :]
        raw = self._raw_outputs(samples, X, drawn)
        return head.of_rows(split_parameters(head, raw, constants, self.fixed), y)

    def _beta_factor(self, theta, X, y, drawn):
        """What the β-NLL multiplies losses by, scale^(2β), which the gradient takes for a constant."""
        if not self.network.head.scales_loss:
            return 1.0
        parameters, _ = self._parameters_of_rows(self._weights(theta[None], drawn), X, y, drawn)
        return parameters["scale"] ** (2 * self.knobs.beta)

    def _negative_log_likelihood(self, samples, factor, X, y, drawn):
        """Of each row, summed over targets, (C, S, B)."""
        head = self.network.head
        if head.family == "bernoulli":
            raw = self._raw_outputs(samples, X, drawn)
            return np.sum(np.logaddexp(0, raw) - y * raw, axis=-1)
        if head.family == "categorical":
            raw = self._raw_outputs(samples, X, drawn)
            return special.logsumexp(raw, axis=-1) - np.sum(y * raw, axis=-1)
        parameters, y = self._parameters_of_rows(samples, X, y, drawn)
        return np.sum(-factor * head.density(NUMPY, y, parameters), axis=-1)
