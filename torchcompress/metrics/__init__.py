"""What a model costs and how right it is: size, latency, accuracy."""

from torchcompress.metrics.accuracy import Accuracy, evaluate
from torchcompress.metrics.latency import LatencySetting, Ratio, Timings, measure_latency
from torchcompress.metrics.latency_table import LatencyTable, LayerTimes
from torchcompress.metrics.measure import Comparison, Measurement, compare, measure
from torchcompress.metrics.size import count_params, file_bytes, state_dict_bytes

__all__ = [
    "Accuracy",
    "Comparison",
    "LatencySetting",
    "LatencyTable",
    "LayerTimes",
    "Measurement",
    "Ratio",
    "Timings",
    "compare",
    "count_params",
    "evaluate",
    "file_bytes",
    "measure",
    "measure_latency",
    "state_dict_bytes",
]
