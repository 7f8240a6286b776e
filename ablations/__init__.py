"""Many runs: grids become runs, runs become a plan, a plan is executed. Knows the core; nothing knows it."""
