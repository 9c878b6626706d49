"""Displays in scikit-learn's manner: pictures of predictions and their uncertainty.

Each has ``from_estimator``, most have ``from_predictions``; both keep what they draw as attributes, take ``ax`` to draw into
axes that are there, and return the display with ``ax_`` and ``figure_``; ``plot`` draws it again. Pipelines, searches and other
composites are taken as :mod:`skuq.composites` takes them. Colours are told apart with any kind of colour vision, and what meets
in one picture differs in its shape or lightness too.

They draw with matplotlib: ``pip install "skuq[plot]"``. It is imported when a display is first drawn.
"""

from ._calibration import CoverageDisplay, PITDisplay, ReliabilityDisplay
from ._intervals import DensityDisplay, DrawsDisplay, PredictionIntervalDisplay
from ._training import LossCurveDisplay, RegularizationPathDisplay
from ._uncertainty import RiskCoverageDisplay, SurfaceDisplay, UncertaintySplitDisplay

__all__ = [
    "CoverageDisplay",
    "DensityDisplay",
    "DrawsDisplay",
    "LossCurveDisplay",
    "PITDisplay",
    "PredictionIntervalDisplay",
    "RegularizationPathDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "SurfaceDisplay",
    "UncertaintySplitDisplay",
]
