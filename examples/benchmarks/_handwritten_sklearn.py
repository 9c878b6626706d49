"""scikit-learn's own networks: MLPRegressor, MLPClassifier, and a grid search over alpha."""

import numpy as np
from _rows import Data, Run
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# MLPRegressor divides its penalty by the rows of the batch; skuq does not.
ALPHAS = np.logspace(-5, 2, 8)
SEARCH_BATCH = 32
# All epochs, whatever the loss does.
FIXED = {"tol": 0.0, "early_stopping": False}


def with_residual_noise(model, data):
    """Make a point regressor's predictions normal: its mean, and its error on the training rows as σ."""
    sigma = np.std(data.y - model.predict(data.X))

    def predict(X):
        loc = model.predict(X)[None]
        return loc, np.full_like(loc, sigma)

    return predict


def fit_regressor(data: Data, run: Run):
    model = MLPRegressor(max_iter=run.epochs, n_iter_no_change=run.epochs + 1, random_state=run.seed, **FIXED)
    return with_residual_noise(model.fit(data.X, data.y), data)


def fit_classifier(data: Data, run: Run):
    model = MLPClassifier(max_iter=run.epochs, n_iter_no_change=run.epochs + 1, random_state=run.seed, **FIXED)
    return model.fit(data.X, data.y).predict_proba


def search(data: Data, run: Run):
    network = MLPRegressor(
        hidden_layer_sizes=(50,),
        batch_size=SEARCH_BATCH,
        learning_rate_init=0.01,
        max_iter=run.epochs,
        n_iter_no_change=run.epochs + 1,
        random_state=run.seed,
        **FIXED,
    )
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    grid = {"regressor__mlpregressor__alpha": ALPHAS}
    return with_residual_noise(GridSearchCV(model, grid, cv=5).fit(data.X, data.y), data)
