"""Numbers to tables: what the models cost and what the runs gave, beside what the paper reports."""
