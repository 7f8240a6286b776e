"""The memory of a training on one device, in closed form: what the state takes, and what autograd keeps. No torch."""
