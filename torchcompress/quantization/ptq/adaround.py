"""AdaRound: up or down for each weight, learned by gradient."""

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import output_error
from torchcompress.reconstruction.rounding import LARGEST

_ITERATIONS = 300
_RATE = 0.1
_PULL = 1.0
_WARM = 0.2
_STRETCH = (-0.1, 1.1)
_BETA = (20.0, 2.0)


def adaround(weight: Tensor, gram: Tensor, scale: Tensor) -> Tensor:
    """Learns for each weight whether it goes to the integer above or below.

    Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization": a rectified
    sigmoid for each weight, pulled towards 0 or 1 ever harder, under the layer's squared output
    error. Rows that this does not help are rounded plainly, and zeros stay zero.

    Args:
        weight: (groups, outputs, columns).
        gram: (groups, columns, columns), of the layer's inputs.
        scale: Step of each row, above 0, (groups, outputs).

    Returns:
        The integers in [-127, 127], int8.
    """
    dense = weight.to(gram.dtype)
    step = scale.to(gram.dtype)[:, :, None]
    real = dense / step
    plain = real.round().clamp(-LARGEST, LARGEST)
    below = real.floor()
    products = gram / gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)[:, None, None]
    low, high = _STRETCH
    start = ((real - below) - low) / (high - low)
    logit = torch.logit(start.clamp(1e-4, 1 - 1e-4))
    with torch.enable_grad():
        logit = logit.requires_grad_()
        optimizer = torch.optim.Adam([logit], lr=_RATE)
        for number in range(_ITERATIONS):
            share = (torch.sigmoid(logit) * (high - low) + low).clamp(0, 1)
            gap = below + share - real
            loss = ((gap @ products) * gap).sum()
            done = (number / _ITERATIONS - _WARM) / (1 - _WARM)
            if done > 0:
                beta = _BETA[0] + (_BETA[1] - _BETA[0]) * done
                loss = loss + _PULL * (1 - (2 * share - 1).abs().pow(beta)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learned = (below + (logit.detach() > 0)).clamp(-LARGEST, LARGEST)
    learned = torch.where(dense == 0, 0, learned)
    better = output_error(learned * step, dense, gram) < output_error(plain * step, dense, gram)
    return torch.where(better[:, :, None], learned, plain).to(torch.int8)
