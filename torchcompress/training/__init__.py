"""Training: the loop, and the callbacks that take part in it."""

from torchcompress.training.callback import Callback, Run
from torchcompress.training.checkpoint import Checkpoint
from torchcompress.training.config import TrainerConfig
from torchcompress.training.csv_log import CSVLog
from torchcompress.training.ema import EMA
from torchcompress.training.trainer import Trainer, TrainingResult

__all__ = [
    "EMA",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "Run",
    "Trainer",
    "TrainerConfig",
    "TrainingResult",
]
