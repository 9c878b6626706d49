"""Calibration on rows that training did not see: conformal intervals and sets, and temperature.

:class:`ConformalRegressor` and :class:`ConformalClassifier` go around any scikit-learn estimator or Pipeline, fitted or
not. Their intervals and sets hold the truth of a new row with the probability asked for, whatever the model and the
distribution, as long as calibration rows and new rows are exchangeable (Vovk et al. 2005). The promise is marginal,
over all rows, unless ``groups=`` asks for it within each group or class. :func:`fit_temperature` finds the temperature
of class probabilities.
"""

from skuq.calibration._classification import ConformalClassifier
from skuq.calibration._regression import ConformalRegressor
from skuq.calibration._temperature import fit_temperature

__all__ = ["ConformalClassifier", "ConformalRegressor", "fit_temperature"]
