"""torchcompress and Torch-Pruning 1.6.1 side by side: what benchmarks/channels.py measures."""
