"""Post-training algorithms: each a function from a draft to a draft with less error."""
