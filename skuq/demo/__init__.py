"""The five methods on real data, in about five minutes: ``python -m skuq.demo``.

Regression (diabetes), classification with digits that were never seen, and the two moons with their uncertainty drawn
as a picture, on every installed backend. All estimators run with their default parameters.
"""
