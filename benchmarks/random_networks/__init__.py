"""Random networks as plain data, and what a pruning plan must hold for each of them."""

from random_networks import image_layers, image_moves, joint_steps, token_steps
from random_networks.drawing import draw_case
from random_networks.network import Description, Node, RandomNetwork
from random_networks.shrink import shrunk
from random_networks.verdict import judge

__all__ = [
    "Description",
    "Node",
    "RandomNetwork",
    "draw_case",
    "image_layers",
    "image_moves",
    "joint_steps",
    "judge",
    "shrunk",
    "token_steps",
]
