"""Rows before any model: merged, scaled, divided into folds, encoded."""
