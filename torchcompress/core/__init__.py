"""Errors, targets, plans, example inputs and what a model remembers."""
