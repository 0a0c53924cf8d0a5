"""The bytes and FLOPs of a step, and the least time that a machine's memory and arithmetic allow for the step."""
