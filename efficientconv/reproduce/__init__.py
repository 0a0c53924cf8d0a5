"""The paper's tables, run by run: what is to be done, what it costs, what came out."""
