"""Every kind of operation of a program: what it looks like, what it computes."""
