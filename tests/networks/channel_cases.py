"""Small models, each of one kind on which channel pruning goes wrong easily."""

import layer_cases
import movement_cases
import sequence_cases
from case_registry import CASES, Case

__all__ = ["CASES", "Case", "layer_cases", "movement_cases", "sequence_cases"]
