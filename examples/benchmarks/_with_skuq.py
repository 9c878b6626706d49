"""The same work with skuq: one function for each row."""

from functools import partial

from _handwritten_sklearn import ALPHAS, SEARCH_BATCH
from _rows import Data, Run
from sklearn.model_selection import GridSearchCV

import skuq
from skuq.likelihoods import Normal

# Two classes have one logit here. Adam moves the difference of the tutorial's two logits twice as fast as either, so its
# learning rate of 1e-4 is 2e-4.
TUTORIAL = {
    "hidden_layer_sizes": (128,) * 6,
    "activation": "relu",
    "architecture": "resnet",
    "dropout_rate": 0.1,
    "batch_size": 128,
    "learning_rate_init": 2e-4,
}
BLITZ = {
    "activation": "relu",
    "batch_size": 16,
    "learning_rate_init": 0.01,
    "n_train_samples": 3,
    "prior": "scale_mixture",
    "prior_scale": 0.4,
    "prior_scale_ratio": 0.25,
    "prior_mix": 0.5,
    "posterior_scale_init": 0.018,
    "kl_weight": 1.0,
}
# As MLPRegressor and MLPClassifier have it; their penalty is divided by the rows of the batch.
MLP = {
    "hidden_layer_sizes": (100,),
    "activation": "relu",
    "batch_size": 200,
    "learning_rate_init": 1e-3,
    "regularizer": "l2",
    "alpha": 1e-4 / 200,
}


def here(run: Run) -> dict:
    """Backend, device and seed."""
    return {"backend": run.backend, "device": run.device, "random_state": run.seed}


def same_work(run: Run, **options) -> dict:
    """Do what a plain loop does: all epochs at a constant rate on the features alone, no rows held out, no penalty."""
    plain = {"learning_rate": "constant", "input_encoding": None, "early_stopping": False, "regularizer": None}
    return here(run) | plain | {"max_iter": run.epochs, "n_iter_no_change": run.epochs + 1} | options


def defaults(run: Run) -> dict:
    """Take all of skuq's own choices; a smoke run is cut short."""
    return here(run) | ({"max_iter": run.epochs} if run.quick else {})


def mixture(model):
    """Means and standard deviations (n_draws, n_rows) of a normal likelihood."""

    def predict(X):
        draws = skuq.predict_dist(model, X).parameters
        return draws["loc"][..., 0], draws["scale"][..., 0]

    return predict


def probabilities_and_variances(model):
    return partial(model.predict_proba, return_variance=True)


def fit_sngp(data: Data, run: Run):
    model = skuq.SNGPClassifier(**same_work(run, **TUTORIAL, spec_norm_bound=0.9, n_inducing=1024))
    return probabilities_and_variances(model.fit(data.X, data.y))


def fit_ensemble(data: Data, run: Run):
    return skuq.DeepEnsembleClassifier(**same_work(run, **TUTORIAL, n_members=10)).fit(data.X, data.y).predict_proba


def fit_dropout(data: Data, run: Run):
    return skuq.MCDropoutClassifier(**same_work(run, **TUTORIAL, n_draws=10)).fit(data.X, data.y).predict_proba


def fit_moons(data: Data, run: Run):
    model = skuq.BNNClassifier(**same_work(run, **BLITZ, hidden_layer_sizes=(15, 10)))
    return model.fit(data.X, data.y).predict_proba


def fit_diabetes(data: Data, run: Run):
    noise = Normal(scale=0.5**0.5)  # the density of which torch's MSELoss is the negative logarithm
    model = skuq.BNNRegressor(**same_work(run, **BLITZ, hidden_layer_sizes=(512,), likelihood=noise))
    return mixture(model.fit(data.X, data.y))


def fit_wine(data: Data, run: Run):
    model = skuq.BNNRegressor(
        **same_work(run, batch_size=256, learning_rate_init=0.003),  # as for the other side, the best of three
        hidden_layer_sizes=(8, 8),
        activation="logistic",
        posterior="full_covariance",
        prior_scale=1.0,
        kl_weight=1.0,
        n_train_samples=1,
        n_draws=5 if run.quick else 100,
        likelihood=Normal(beta=0),
    )
    return mixture(model.fit(data.X, data.y))


def fit_linear(data: Data, run: Run):
    model = skuq.ProbabilisticRegressor(
        **same_work(run, batch_size=32, learning_rate_init=0.01),
        hidden_layer_sizes=(),
        likelihood=Normal(scale=1.0),
        standardize=False,
    )
    return mixture(model.fit(data.X, data.y))


def default_sngp(data: Data, run: Run):
    return probabilities_and_variances(skuq.SNGPClassifier(**defaults(run)).fit(data.X, data.y))


def default_ensemble(data: Data, run: Run):
    return skuq.DeepEnsembleClassifier(**defaults(run)).fit(data.X, data.y).predict_proba


def default_bnn(data: Data, run: Run):
    return skuq.BNNClassifier(**defaults(run)).fit(data.X, data.y).predict_proba


def fit_mlp_regressor(data: Data, run: Run):
    model = skuq.ProbabilisticRegressor(**same_work(run, **MLP, likelihood=Normal(scale="constant", beta=0)))
    return mixture(model.fit(data.X, data.y))


def fit_mlp_classifier(data: Data, run: Run):
    return skuq.ProbabilisticClassifier(**same_work(run, **MLP)).fit(data.X, data.y).predict_proba


def search(data: Data, run: Run):
    network = {"hidden_layer_sizes": (50,), "activation": "relu", "regularizer": "l2"}
    likelihood = Normal(scale="constant", beta=0)
    options = same_work(run, **network, batch_size=SEARCH_BATCH, learning_rate_init=0.01, likelihood=likelihood)
    grid = {"alpha": ALPHAS / SEARCH_BATCH}
    return mixture(GridSearchCV(skuq.ProbabilisticRegressor(**options), grid, cv=5).fit(data.X, data.y))


def fit_tall(data: Data, run: Run):
    model = skuq.ProbabilisticRegressor(max_iter=run.epochs, **here(run))
    return mixture(model.fit(data.X, data.y))


def fit_intervals(data: Data, run: Run):
    model = skuq.MCDropoutRegressor(max_iter=run.epochs, n_draws=100, **here(run))
    return model.fit(data.X, data.y).predict_interval
