"""Statistics of batch norms, estimated anew for a model that has changed."""

import torch
from torch import nn

from torchcompress.core.modules import eval_mode
from torchcompress.graph.running import plain_kernels
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.layers import Norm


def reestimate_batch_norms(model: nn.Module, calibration: Calibration) -> None:
    """Sets the running statistics of all batch norms to the mean over calibration batches.

    Everything else runs in eval mode. A norm that the batches do not reach, or that keeps no
    statistics, stays as it was; so does the count of batches that each has seen.

    Args:
        model: The model, changed in place.
        calibration: The batches.

    Raises:
        CalibrationError: A batch that the model fails on.
    """
    norms = [
        (norm, norm.momentum, {name: b.clone() for name, b in norm.named_buffers()})
        for norm in model.modules()
        if isinstance(norm, Norm) and norm.running_mean is not None
    ]
    with eval_mode(model), plain_kernels(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        for norm, _, _ in norms:
            norm.training, norm.momentum = True, None
            norm.reset_running_stats()
        try:
            for index in range(len(calibration)):
                calibration.call(model, index)
        finally:
            for norm, momentum, before in norms:
                norm.momentum = momentum
                reached = norm.num_batches_tracked
                if reached is None or not reached:
                    for name, buffer in norm.named_buffers():
                        buffer.copy_(before[name])
                else:
                    reached.copy_(before["num_batches_tracked"])
