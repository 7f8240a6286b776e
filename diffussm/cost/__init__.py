"""The cost of a model: parameters and multiply-adds, in closed form and counted."""
