"""All measurements on a GPU, stage by stage (scripts/gpu_day.py)."""
