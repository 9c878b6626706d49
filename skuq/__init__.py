"""scikit-learn estimators that know what they do not know."""

from importlib.metadata import PackageNotFoundError, version

from . import likelihoods
from .bnn import BNNClassifier, BNNRegressor
from .composites import (
    predict_dist,
    predict_interval,
    predict_quantiles,
    predict_set,
    predict_uncertainty,
    sample_y,
)
from .deep_ensemble import DeepEnsembleClassifier, DeepEnsembleRegressor
from .mc_dropout import MCDropoutClassifier, MCDropoutRegressor
from .probabilistic import ProbabilisticClassifier, ProbabilisticRegressor
from .sngp import SNGPClassifier, SNGPRegressor

try:
    __version__ = version("skuq")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "DeepEnsembleClassifier",
    "DeepEnsembleRegressor",
    "MCDropoutClassifier",
    "MCDropoutRegressor",
    "ProbabilisticClassifier",
    "ProbabilisticRegressor",
    "SNGPClassifier",
    "SNGPRegressor",
    "likelihoods",
    "predict_dist",
    "predict_interval",
    "predict_quantiles",
    "predict_set",
    "predict_uncertainty",
    "sample_y",
]
