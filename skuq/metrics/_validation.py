"""What the metrics accept, and how they say no."""

from numbers import Real

import numpy as np
from scipy import stats
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight

from skuq.metrics._adapters import adapt, is_distribution_object

# Probabilities that a float32 softmax returned miss 1 by less than this.
SUM_TOLERANCE = 1e-3


def load_scoringrules():
    """Import scoringrules, or say how to get it."""
    try:
        import scoringrules
    except ImportError as error:
        raise ImportError(
            "This score is computed by scoringrules, which is not installed. "
            'Install it with `pip install scoringrules` or `pip install "skuq[metrics]"`.'
        ) from error
    return scoringrules


def check_level(value, name="coverage"):
    """Return a probability as a float, or raise if it does not lie strictly between 0 and 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < 1:
        hint = f" For {value:g} % pass {name}={value / 100:g}." if isinstance(value, Real) and 1 < value < 100 else ""
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}.{hint}")
    return float(value)


def check_weight(sample_weight, rows):
    """Non-negative weights of shape (n,); ones for None."""
    return _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)


def check_target(y_true, sample_weight):
    """Real targets and their weights.

    Returns
    -------
    y : ndarray of shape (n, t)
    weight : ndarray of shape (n,)
    """
    y = check_array(y_true, ensure_2d=False, dtype=np.float64, input_name="y_true")
    if y.ndim not in (1, 2):
        raise ValueError(f"y_true must have shape (n,) or (n, t), got {y.shape}.")
    return y.reshape(len(y), -1), check_weight(sample_weight, y)


def check_parameters(dist):
    """Raise ValueError for a distribution of scipy with parameters outside their range, of which scipy says nan."""
    inner = getattr(dist, "inner", dist)
    if not type(inner).__module__.startswith("scipy."):
        return
    with np.errstate(all="ignore"):
        wrong = np.isnan(inner.support()).any(axis=0)
    if np.any(wrong):
        raise ValueError(
            f"y_pred has parameters outside their range in {np.count_nonzero(wrong)} of {np.size(wrong)} distributions: a scale "
            f"or a standard deviation must be positive, and no parameter nan."
        )


def is_categorical(y_pred):
    """Whether `y_pred` is what a classifier's predict_dist returns."""
    return hasattr(y_pred, "classes") and hasattr(y_pred, "mean")


def is_distribution(y_pred):
    """Whether `y_pred` describes distributions of real targets, or is a tuple (mean, std); a TypeError if it is nothing known."""
    return isinstance(y_pred, tuple) or (not is_categorical(y_pred) and is_distribution_object(y_pred))


def check_distribution(y_pred, y):
    """Match distributions to targets: one margin for each value of `y`, and `y` in the distributions' own shape.

    Parameters
    ----------
    y_pred : predict_dist result, distribution of scipy, skpro, torch or TensorFlow Probability, or tuple (mean, std)
    y : ndarray of shape (n, t)

    Returns
    -------
    dist : object with mean, std, cdf, ppf, logpdf (or logpmf), rvs
    y : ndarray of the shape of ``dist.mean()``, (n,) or (n, t)
    """
    dist = _check_normal(y_pred) if isinstance(y_pred, tuple) else adapt(y_pred)
    check_parameters(dist)
    shape = np.shape(dist.mean())
    if shape != y.shape and not (y.shape[1] == 1 and shape == y.shape[:1]):
        raise ValueError(
            f"y_pred has distributions of shape {shape}, y_true has {y.shape[0]} rows and {y.shape[1]} output(s). "
            "Predict for the same rows and outputs that y_true holds."
        )
    return dist, y.reshape(shape)


def _check_normal(y_pred):
    if len(y_pred) != 2:
        raise ValueError(f"A tuple y_pred must be (mean, std), got {len(y_pred)} elements.")
    mean, std = (
        check_array(value, ensure_2d=False, dtype=np.float64, input_name=name)
        for value, name in zip(y_pred, ("mean", "std"), strict=True)
    )
    if mean.shape != std.shape:
        raise ValueError(f"mean and std must have the same shape, got {mean.shape} and {std.shape}.")
    if np.any(std <= 0):
        raise ValueError(f"Standard deviations must be positive, got a minimum of {std.min():g}.")
    return stats.norm(mean, std)


def check_last_axis(values, y, name, length=None):
    """Array of `length` numbers for each value of `y`, given with or without the outputs' axis.

    Returns
    -------
    values : ndarray of shape (n, t, length)
    """
    if is_categorical(values):
        raise TypeError(
            "This score is for real targets, got the class probabilities of a classifier. "
            "Use nll, brier_score, ece or aurc for those."
        )
    values = check_array(values, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name=name)
    size = values.shape[-1] if length is None else length
    if values.shape != (*y.shape, size) and not (y.shape[1] == 1 and values.shape == (len(y), size)):
        last = "k" if length is None else length
        expected = f"(n, {last}) or (n, 1, {last})" if y.shape[1] == 1 else f"(n, t, {last})"
        raise ValueError(
            f"{name} must have shape {expected} for y_true with n={y.shape[0]} rows and t={y.shape[1]} output(s), "
            f"got {values.shape}."
        )
    return values.reshape(*y.shape, size)


def average(values, weight, multioutput):
    """Weighted mean over rows, then over outputs as scikit-learn's ``multioutput`` says.

    Parameters
    ----------
    values : ndarray of shape (n, t) or (n,)
    weight : ndarray of shape (n,)
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,)

    Returns
    -------
    float, or ndarray of shape (t,) for "raw_values"
    """
    per_output = np.average(values.reshape(len(values), -1), weights=weight, axis=0)
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return per_output
        if multioutput == "uniform_average":
            return float(per_output.mean())
        raise ValueError(
            f"multioutput must be 'uniform_average', 'raw_values' or weights of the outputs, got {multioutput!r}."
        )
    check_consistent_length(per_output, multioutput)
    return float(np.average(per_output, weights=multioutput))


def check_probabilities(y_true, y_prob, labels, sample_weight):
    """Labels as column numbers, and probabilities that sum to one.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    y_prob : array-like of shape (n, n_classes), or (n,) with the probability of the second of two classes, or a
        classifier's predict_dist result, which knows its classes
    labels : array-like of shape (n_classes,) or None
        Classes in the order of the columns; None takes the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,) or None

    Returns
    -------
    column : ndarray of int of shape (n,)
    prob : ndarray of shape (n, n_classes), float32 or float64
    weight : ndarray of shape (n,)
    labels : ndarray of shape (n_classes,)
    """
    if is_distribution(y_prob):
        raise TypeError(
            "This score is for class probabilities, got distributions of real targets. Use nll, crps or pit."
        )
    if is_categorical(y_prob):
        labels, y_prob = y_prob.classes, y_prob.mean()
    y_true = column_or_1d(y_true)
    prob = check_array(y_prob, ensure_2d=False, dtype=[np.float64, np.float32], input_name="y_prob")
    check_consistent_length(y_true, prob)
    weight = check_weight(sample_weight, y_true)
    if prob.ndim == 1:
        prob = np.column_stack([1 - prob, prob])
    if prob.min() < -SUM_TOLERANCE or prob.max() > 1 + SUM_TOLERANCE:
        raise ValueError(
            f"Probabilities must lie in [0, 1], got values from {prob.min():g} to {prob.max():g}. "
            "Pass predict_proba's output, not logits or percentages."
        )
    prob = np.clip(prob, 0, 1)
    total = prob.sum(axis=1, keepdims=True)
    if np.abs(total - 1).max() > SUM_TOLERANCE:
        row = int(np.abs(total - 1).argmax())
        raise ValueError(f"Each row of y_prob must sum to 1, got {total[row, 0]:g} in row {row}.")

    labels = np.unique(y_true) if labels is None else column_or_1d(labels)
    if len(labels) != prob.shape[1]:
        raise ValueError(
            f"y_prob has {prob.shape[1]} columns for {len(labels)} classes. "
            "Pass labels=estimator.classes_, the classes in the order of the columns."
        )
    unknown = np.setdiff1d(y_true, labels)
    if len(unknown):
        raise ValueError(f"y_true holds labels that no column of y_prob stands for: {unknown[:5].tolist()}.")
    order = np.argsort(labels)
    return order[np.searchsorted(labels, y_true, sorter=order)], prob / total, weight, labels
