"""Many runs: one after the other, several at a time, on a cluster, or searched for."""
