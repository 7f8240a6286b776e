"""State-space layers: S4D's parameters, and the backends that compute them."""
