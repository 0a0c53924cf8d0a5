"""What a step must move and multiply, and the least time that a machine's memory and arithmetic leave for it."""
