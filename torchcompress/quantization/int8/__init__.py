"""Integer arithmetic on plain uint8 and int8 tensors: native kernels and their reference."""
