"""What all ten estimators share: the ladder of fit, the two tasks, and what held-out rows calibrate."""
