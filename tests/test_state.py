"""A fitted estimator is what ``fit`` left: no parameter that is changed later and no question that is asked changes it."""

import pickle
from importlib.util import find_spec
from inspect import signature

import joblib
import numpy as np
import pytest
from _table import ESTIMATORS, assert_same, each_estimator, make, outputs, over, problem
from sklearn.exceptions import NotFittedError

import skuq
from skuq._estimator.base import Estimator
from skuq._estimator.regression import RegressorTask
from skuq.likelihoods import Normal
from skuq.probabilistic import _Probabilistic

QUICK = {"max_iter": 2}

# For each parameter another legal value than any that an estimator of the table is fitted with.
OTHER = {
    "hidden_layer_sizes": (),
    "activation": "tanh",
    "architecture": {"mlp": "resnet", "resnet": "mlp"},
    "dropout_rate": 0.7,
    "regularizer": "l1",
    "alpha": 10.0,
    "l1_ratio": 0.9,
    "input_encoding": None,
    "n_bins": 3,
    "n_frequencies": 3,
    "frequency_scale": 0.7,
    "batch_size": 7,
    "learning_rate": "constant",
    "learning_rate_init": 0.3,
    "max_iter": 1,
    "shuffle": False,
    "early_stopping": False,
    "validation_fraction": 0.4,
    "n_iter_no_change": 2,
    "tol": 1.0,
    "standardize": False,
    "warm_start": True,
    "backend": {"tensorflow": "blitz", "blitz": "tensorflow"},
    "device": "cuda",
    "random_state": 7,
    "verbose": True,
    "likelihood": "poisson",
    "calibration": {None: "conformal", "conformal": None, "temperature": None},
    "class_weight": "balanced",
    "n_draws": 3,
    "n_members": 2,
    "n_jobs": 2,
    "posterior": "full_covariance",
    "prior": "scale_mixture",
    "prior_scale": 3.0,
    "prior_scale_ratio": 0.5,
    "prior_mix": 0.9,
    "kl_weight": 1.0,
    "posterior_scale_init": 0.5,
    "n_train_samples": 1,
    "input_projection": {"auto": "random", "trained": "random"},
    "spec_norm_bound": None,
    "n_inducing": 16,
    "kernel_scale": 9.0,
    "ridge_penalty": 9.0,
    "mean_field_factor": 5.0,
    "covariance": "per_class",
}


def others(model) -> dict:
    """Another value of each parameter of an estimator."""
    given = model.get_params(deep=False)
    values = {name: OTHER[name] for name in given}
    return {name: v[given[name]] if isinstance(v, dict) else v for name, v in values.items()}


def fitted_with(name, backend, **changes):
    X, y = problem(name)
    return make(name, backend, **{**QUICK, **changes}).fit(X, y), X[:12]


def attributes(model) -> dict:
    return {name: value for name, value in vars(model).items() if name.endswith("_")}


def native_outputs(model, X) -> list:
    """All numbers of the native model or models: weights, rates of dropout, priors, and what they say of rows."""
    backend, native = model.backend_, model.to_native()
    found = []
    for one in native if isinstance(native, list) else [native]:
        if backend == "tensorflow":
            import tensorflow as tf

            found += [*one.get_weights(), [getattr(layer, "rate", None) for layer in one.layers]]
            tf.random.set_seed(0)
            said = one(X.astype(np.float32), training=True)
            for part in said if isinstance(said, list | tuple) else [said]:
                parts = [part.mean(), part.stddev()] if hasattr(part, "stddev") else [part]
                found += [np.asarray(one) for one in parts]
            found += [np.asarray(loss) for loss in one.losses]
        else:
            import torch

            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                found += [value.numpy() for value in one.state_dict().values()]
                said = [one(torch.tensor(X)), one.train()(torch.tensor(X))]
                said = [part for s in said for part in (s if isinstance(s, tuple) else (s,))]
                found += [(part.mean if hasattr(part, "log_prob") else part).numpy() for part in said]
                if hasattr(one, "nn_kl_divergence"):
                    found.append(one.nn_kl_divergence().numpy())
    return found


CALIBRATED = [(name, c) for name in ESTIMATORS for c in (None, "conformal")]
CALIBRATED += [(name, "temperature") for name in ESTIMATORS if name.endswith("Classifier")]


@pytest.mark.parametrize("calibration", [None, "conformal", "temperature"])
@each_estimator
def test_changing_a_parameter_after_fit_changes_nothing_that_was_fitted(name, backend, calibration):
    if (name, calibration) not in CALIBRATED:
        pytest.skip("regressors have no temperature")
    model, X = fitted_with(name, backend, calibration=calibration)
    given, before = model.get_params(deep=False), outputs(model, X)
    attributes_before, state = pickle.dumps(attributes(model)), pickle.dumps(model._state)
    for parameter, value in others(model).items():
        assert value != given[parameter]
        model.set_params(**{parameter: value})
        try:
            assert_same(outputs(model, X), before)
        except Exception as error:
            raise AssertionError(f"{parameter}={value!r} changes answers") from error
        assert pickle.dumps(attributes(model)) == attributes_before, parameter
        assert pickle.dumps(model._state) == state, parameter
        model.set_params(**{parameter: given[parameter]})


@each_estimator
def test_changing_parameters_after_fit_changes_no_native_model(name, backend):
    if backend == "tensorflow" and name.startswith("SNGP"):
        pytest.importorskip("official")
    model, X = fitted_with(name, backend, dropout_rate=0.2)
    before = native_outputs(model, X)
    for parameter, value in others(model).items():
        if parameter in ("posterior", "prior", "prior_scale", "dropout_rate", "spec_norm_bound", "ridge_penalty"):
            one = pickle.loads(pickle.dumps(model)).set_params(**{parameter: value})
            np.testing.assert_equal(native_outputs(one, X), before, err_msg=parameter)
    model.set_params(**others(model))
    np.testing.assert_equal(native_outputs(model, X), before)
    if hasattr(model, "draw_to_native"):
        model.draw_to_native(0)
    answers = outputs(model, X)
    again = outputs(model.from_native(model.to_native()), X)
    assert_same(again, answers, rtol=2e-3, atol=1e-6)


@over([name for name in ESTIMATORS if name.endswith("Regressor")])
def test_a_likelihood_that_is_changed_after_fit_is_not_the_one_that_answers(name, backend):
    X, y = problem(name)
    likelihood = Normal(beta=0.5)
    model = make(name, backend, likelihood=likelihood, **QUICK).fit(X, y)
    before = outputs(model, X[:12])
    model.set_params(likelihood__scale=3.0)
    assert model.likelihood is likelihood
    assert_same(outputs(model, X[:12]), before)


def questions(model, X, y) -> dict:
    """How each public method that asks something is called."""
    asked = {
        "predict": lambda: model.predict(X),
        "predict_proba": lambda: model.predict_proba(X),
        "predict_interval": lambda: model.predict_interval(X, coverage=[0.5, 0.7]),
        "predict_quantiles": lambda: model.predict_quantiles(X),
        "predict_uncertainty": lambda: model.predict_uncertainty(X),
        "predict_set": lambda: model.predict_set(X, coverage=0.7),
        "predict_dist": lambda: repr(model.predict_dist(X)),
        "sample_y": lambda: model.sample_y(X, 3),
        "latent_mean_and_variance": lambda: model.latent_mean_and_variance(X),
        "score": lambda: model.score(X, y),
        "to_native": model.to_native,
        "draw_to_native": lambda: model.draw_to_native(0),
        "get_params": model.get_params,
        "get_metadata_routing": model.get_metadata_routing,
    }
    return {name: ask for name, ask in asked.items() if hasattr(model, name)}


# What is meant to change an estimator.
CHANGES = {"fit", "set_params", "from_native", "set_callbacks"}


@pytest.mark.parametrize("kind", ["plain", "conformal", "other"])
@each_estimator
def test_asking_changes_nothing(name, backend, kind):
    other = {"posterior": "full_covariance"} if name.startswith("BNN") else {"architecture": "resnet"}
    if name.startswith("MCDropout"):
        other = {"hidden_layer_sizes": (8, 4)}
    changes = {"plain": {}, "conformal": {"calibration": "conformal"}, "other": other}[kind]
    model, X = fitted_with(name, backend, **changes)
    _, y = problem(name)
    public = {method for method in dir(model) if not method.startswith("_") and callable(getattr(model, method))}
    public = {method for method in public if not (method.startswith("set_") and method.endswith("_request"))}
    asked = questions(model, X, y[:12])
    assert public - CHANGES == set(asked)
    content, digest = pickle.dumps(model), joblib.hash(model)
    if backend == "tensorflow" and name.startswith("SNGP") and find_spec("official") is None:
        asked.pop("to_native")
    for method, ask in asked.items():
        ask()
        assert pickle.dumps(model) == content, method
        assert joblib.hash(model) == digest, method
    repr(model)
    model._repr_html_()
    assert pickle.dumps(model) == content


@pytest.mark.parametrize("calibration", [None, "conformal"])
@each_estimator
def test_a_fit_leaves_parameters_attributes_and_one_state(name, backend, calibration):
    X, y = problem(name)
    model = make(name, backend, **QUICK)
    parameters = set(vars(model))
    assert parameters == set(signature(type(model)).parameters)
    model.fit(X, y)
    model.set_params(calibration=calibration).fit(X, y)
    beside = set(vars(model)) - parameters
    assert {attribute for attribute in beside if not attribute.endswith("_")} == {"_state"}
    assert not any(attribute.startswith("_") for attribute in beside - {"_state"})
    documented = type(model).__doc__
    for attribute in beside - {"_state"}:
        assert f"{attribute} :" in documented or f"{attribute}," in documented, attribute


@pytest.mark.parametrize("name", ["MCDropoutRegressor", "MCDropoutClassifier"])
def test_a_draw_of_an_estimator_that_is_not_fitted_says_so(name):
    with pytest.raises(NotFittedError):
        getattr(skuq, name)().draw_to_native(0)


@over(["MCDropoutRegressor"])
def test_a_draw_that_does_not_exist_is_an_error(name, backend):
    model, _ = fitted_with(name, backend)
    for draw in (-1, model.n_draws):
        with pytest.raises(ValueError, match=rf"from 0 to 15, got {draw}"):
            model.draw_to_native(draw)


def test_what_a_method_or_a_task_owes_is_asked_for_when_it_is_made():
    class NoPosterior(RegressorTask, Estimator):
        """A task without a method."""

    class NoTask(_Probabilistic):
        """A method without a task."""

    with pytest.raises(TypeError, match="_posterior"):
        NoPosterior()
    with pytest.raises(TypeError, match=r"_conformity_scores.*_fit_noise.*_read_target"):
        NoTask()
