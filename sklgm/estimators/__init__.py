"""Estimators of scikit-learn: parameters, validation, and the order of the work."""
