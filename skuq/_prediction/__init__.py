"""From what a model says about rows to what is answered: pure functions and frozen arrays, below estimators and wrappers."""
