"""What a native regressor returns: ``torch.distributions`` objects, of PyTorch's own families where it has them."""

import numpy as np
import torch
from torch import distributions
from torch.distributions import constraints

from ._namespace import TORCH


def _negative_binomial(p):
    # torch's logits are those of a success, and the mean is total_count · exp(logits).
    logits = torch.log(p["mean"]) - torch.log(p["concentration"])
    return distributions.NegativeBinomial(p["concentration"], logits=logits)


OWN = {
    "normal": lambda p: distributions.Normal(p["loc"], p["scale"]),
    "laplace": lambda p: distributions.Laplace(p["loc"], p["scale"]),
    "student_t": lambda p: distributions.StudentT(p["df"], p["loc"], p["scale"]),
    "gamma": lambda p: distributions.Gamma(p["shape"], p["shape"] / p["mean"]),
    "poisson": lambda p: distributions.Poisson(p["rate"]),
    "negative_binomial": _negative_binomial,
}


def distribution(head, parameters):
    """Distribution of a regression head with these named parameters: PyTorch's own, or of the likelihood's formulas."""
    if head.family in OWN:
        return OWN[head.family](parameters)
    return LikelihoodDistribution(head.density.likelihood, parameters)


class LikelihoodDistribution(distributions.Distribution):
    """A likelihood's formulas as a distribution: the log density has gradients, all else is computed by NumPy.

    Parameters
    ----------
    likelihood : Likelihood
    parameters : dict of Tensor
        In y's units.
    """

    arg_constraints: dict = {}

    def __init__(self, likelihood, parameters):
        self.likelihood = likelihood
        self.parameters = dict(zip(parameters, torch.broadcast_tensors(*parameters.values()), strict=True))
        self._like = next(iter(self.parameters.values()))
        super().__init__(self._like.shape, validate_args=False)

    @property
    def support(self):
        """Numbers between the least and the largest target."""
        return constraints.interval(*self.likelihood.support)

    def log_prob(self, value):
        """Log density."""
        return self.likelihood.log_density(TORCH, torch.as_tensor(value).to(self._like), self.parameters)

    def _by_numpy(self, function, *values):
        parameters = {k: v.detach().cpu().numpy().astype(float) for k, v in self.parameters.items()}
        values = [torch.as_tensor(v).detach().cpu().numpy().astype(float) for v in values]
        answer = np.asarray(function(*values, parameters), float)
        return torch.as_tensor(answer, dtype=self._like.dtype, device=self._like.device)

    @property
    def mean(self):
        """E[y]."""
        return self._by_numpy(self.likelihood.mean)

    @property
    def variance(self):
        """Var[y]."""
        return self._by_numpy(self.likelihood.var)

    def cdf(self, value):
        """P(Y ≤ value)."""
        return self._by_numpy(self.likelihood.cdf, value)

    def icdf(self, value):
        """Quantile of that level."""
        return self._by_numpy(self.likelihood.ppf, value)

    def sample(self, sample_shape=()):
        """Targets by the inverse of the cdf, from torch's global generator."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.icdf(torch.rand(shape, dtype=torch.float64).clamp_min(1e-15))
