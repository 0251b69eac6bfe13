"""Data sets by name, the bundled one, calibration batches."""

from torchcompress.data.bundled import bundled_file
from torchcompress.data.open import DATASETS, Data, Loader, open_data

__all__ = ["DATASETS", "Data", "Loader", "bundled_file", "open_data"]
