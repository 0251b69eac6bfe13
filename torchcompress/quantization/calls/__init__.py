"""The calls of a traced graph that quantization knows, each as operations of the program."""
