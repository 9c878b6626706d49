"""A likelihood of your own: the beta distribution of a share, with a link of its own, on either backend.

    python examples/own_likelihood.py [--backend blitz]

The class says which parameters the network gives (names, links), and the log density once, with the functions of `xp`: NumPy
evaluates it, TensorFlow or PyTorch trains on it. Everything else is as for the families of :mod:`skuq.likelihoods`:
intervals, quantiles, samples, native models, clones, pickles and searches.
"""

import argparse

import numpy as np
from scipy import stats
from sklearn.model_selection import GridSearchCV

import skuq
from skuq import metrics
from skuq.likelihoods import Likelihood, Parameter


def cauchit(xp, raw):
    """A probability from a raw number; it comes near 0 and 1 more slowly than the logistic function does."""
    return 0.5 + xp.arctan(raw) / np.pi


class Beta(Likelihood):
    """Beta distribution of shares strictly between 0 and 1, by its mean m and concentration c: Var[y] = m (1 − m) / (1 + c).

    Parameters
    ----------
    link : {"logit"} or callable, default="logit"
        From the network's output to the mean.
    """

    target_transform = None
    support = (0.0, 1.0)

    def __init__(self, link="logit"):
        self.link = link

    def parameters(self):
        return Parameter("mean", self.link, "input"), Parameter("concentration", "softplus", "constant", floor=1e-2)

    def log_density(self, xp, y, parameters):
        a = parameters["mean"] * parameters["concentration"]
        b = (1 - parameters["mean"]) * parameters["concentration"]
        return xp.lgamma(a + b) - xp.lgamma(a) - xp.lgamma(b) + (a - 1) * xp.log(y) + (b - 1) * xp.log1p(-y)

    def distribution(self, parameters):
        a = parameters["mean"] * parameters["concentration"]
        return stats.beta(a, parameters["concentration"] - a)


def main():
    """Fit shares whose mean is a curve; compare with the truth; choose the link by cross-validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["auto", "tensorflow", "blitz"], default="auto")
    backend = parser.parse_args().backend
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(2000, 1))
    mean = 1 / (1 + np.exp(-2 * np.sin(2 * X[:, 0])))
    y = rng.beta(20 * mean, 20 * (1 - mean))
    train, test = slice(0, 1000), slice(1000, None)

    model = skuq.ProbabilisticRegressor(likelihood=Beta(), backend=backend, random_state=0).fit(X[train], y[train])
    nll = metrics.nll(y[test], model.predict_dist(X[test]))
    truth = -stats.beta(20 * mean[test], 20 * (1 - mean[test])).logpdf(y[test]).mean()
    print(f"test NLL {nll:.3f} nats, of the truth {truth:.3f}")
    covered = metrics.coverage(y[test], model.predict_interval(X[test]))
    print(f"coverage of 90 % intervals {covered:.3f}; all within (0, 1)")

    search = GridSearchCV(model.set_params(max_iter=20), {"likelihood__link": ["logit", cauchit]}, scoring="r2", cv=3)
    search.fit(X[train], y[train])
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{parameters['likelihood__link']!s:.20s}: R² {score:.3f}")


if __name__ == "__main__":
    main()
