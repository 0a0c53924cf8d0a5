"""Everything that is to be measured on the day there is a GPU, stage by stage: scripts/gpu_day.py."""
