"""Estimators in files that hold data and no code; docs/user_guide.rst describes the format.

:mod:`.registry` says which classes a file may name, :mod:`.codec` turns objects into JSON and arrays and back, and
:mod:`.container` puts these into one file, whole or not at all.
"""

import os
from collections.abc import Sequence
from typing import Any

__all__ = ["load", "save"]


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file that :func:`load` reads without running anything from it.

    The file is in the format of safetensors: the arrays of the fitted state, and as its metadata a JSON header with the
    parameters, the versions and a SHA-256 checksum. It is written beside `path` and then takes its place, so that a write
    that fails leaves the file that was there.

    Parameters
    ----------
    estimator : estimator
        One of the ten, :class:`skuq.calibration.ConformalRegressor`, :class:`skuq.calibration.ConformalClassifier` or
        :class:`UncertaintyTransformer`, fitted or not; what stands inside the last three has to be of skuq too.
    path : str or path-like
        Where to write; a file that is there is replaced.

    Raises
    ------
    TypeError
        If a parameter or something fitted is nothing that the format holds, such as a function or an estimator of another
        library. What was at `path` stays. For Pipelines and searches use skops with :func:`skuq.utils.trusted_types`.

    See Also
    --------
    load : Read the file.
    skuq.utils.trusted_types : For whole Pipelines, through skops.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = skuq.ProbabilisticRegressor(max_iter=2, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "diabetes.skuq"
    ...     skuq.save(model, path)
    ...     again = skuq.load(path)
    >>> bool((again.predict(X) == model.predict(X)).all())
    True
    """
    from . import codec, container

    container.write(path, *codec.encode(estimator))


def load(path: str | os.PathLike[str], *, classes: Sequence[type] = ()) -> Any:
    """Read an estimator that :func:`save` wrote.

    Nothing is imported because the file names it, nothing in it is run, and no backend is needed.

    Parameters
    ----------
    path : str or path-like
    classes : sequence of type, default=()
        Classes of your own that the file may name: subclasses of :class:`skuq.likelihoods.Likelihood` or of an estimator of
        skuq, each known by its own name.

    Returns
    -------
    estimator
        As it was saved: the same arrays to the last bit.

    Raises
    ------
    ValueError
        If the file is cut short, altered, of another format or of a newer one, or names a class that is not in `classes`.

    See Also
    --------
    save : Write the file.
    """
    from . import codec, container

    return codec.decode(*container.read(path), classes=classes, path=path)
