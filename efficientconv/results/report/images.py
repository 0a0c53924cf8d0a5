"""Pictures of learned kernels (scripts/visualize_kernels.py), as data for the page."""

from __future__ import annotations

import base64
from pathlib import Path

from efficientconv.results.report.sources import Sources

LIMIT_BYTES = 6_000_000  # of all, as the page holds them: it is to stay a file that one can send around


def kernel_images(sources: Sources) -> list[dict[str, str]]:
    """Title and data URL of each, the tiers' own first. Adds a warning for those that found no room."""
    images, room, left_out = [], LIMIT_BYTES, []
    for path, title in _files(sources).items():
        url = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        if len(url) <= room:
            images.append({"title": title, "url": url})
            room -= len(url)
        else:
            left_out.append(str(path))
    if left_out:
        sources.warnings.append(f"{', '.join(left_out)}: left out, the page has no room for so many pictures of kernels")
    return images


def _files(sources: Sources) -> dict[Path, str]:
    of_tiers = {
        path: f"{path.parent.name}/{path.name}" for tier in sources.tier_folders for path in tier.glob("kernels*.png")
    }
    of_runs = {run.path / "kernels.png": run.record.run for run in sources.runs}
    return {path: of_tiers[path] for path in sorted(of_tiers)} | {p: name for p, name in of_runs.items() if p.is_file()}
