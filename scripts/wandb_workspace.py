"""Saves a workspace in a W&B project: plots of accuracy against MACs and measured time, and learning curves by model.

    python scripts/wandb_workspace.py --entity <user or team>
    python scripts/wandb_workspace.py --entity <user or team> --project <project>

Each call saves a new view and prints its address; earlier views stay. The command needs a W&B account with an API key.
"""

from __future__ import annotations

import argparse
import os
import sys

import checkout  # noqa: F401  finds the package
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals
from efficientconv.tracking.wandb_copy import default_project


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("--entity", required=True, help="W&B user or team that the project belongs to")
    parser.add_argument("--project", default=default_project(), help="default: $WANDB_PROJECT, or efficientconv")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

os.environ.setdefault("WANDB_SILENT", "true")  # no lines about the login: the command prints only the address

try:
    import wandb
    from wandb_workspaces.reports.v2 import Config, LinePlot, ScatterPlot, SummaryMetric
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace, WorkspaceSettings
except ModuleNotFoundError as missing:
    print(f"error: {missing.name} is not installed: pip install wandb wandb-workspaces", file=sys.stderr)
    sys.exit(2)

from efficientconv.errors import UserError
from efficientconv.results.figures import FIGURES

SUMMARY = ("top1_percent", "top5_percent", "macs", "params", "ms_per_image", "limit_share")  # keys of summary.json
MOST_RUNS = 100  # in one panel; W&B's own default is 10
CURVES = ("val_top1_percent", "val_loss", "train_loss")  # keys of an epoch's record


def workspace(entity: str, project: str) -> Workspace:
    return Workspace(
        entity=entity, project=project, name="Accuracy against cost",
        sections=[
            Section(name="Accuracy against cost", is_open=True, panels=[
                against("macs", "MACs of one image"), against("ms_per_image", FIGURES["ms_per_image"].about),
                against("params", "parameters"),
            ]),
            Section(name="Curves by model", is_open=True, panels=[curve(key) for key in CURVES]),
        ],
        settings=WorkspaceSettings(max_runs=MOST_RUNS),
        runset_settings=RunsetSettings(pinned_columns=[f"summary:{key}" for key in SUMMARY]),
    )  # fmt: skip


def against(cost: str, title: str) -> ScatterPlot:
    x, y = SummaryMetric(cost), SummaryMetric("top1_percent")
    return ScatterPlot(
        title=f"Top-1 % against {title}", x=x, y=y, log_x=True, legend_template="${config:model_name} ${run:name}"
    )


def curve(key: str) -> LinePlot:
    """Mean and standard deviation over a model's runs."""
    by_model = Config("model_name")
    title = FIGURES[key].about
    return LinePlot(title=title, y=[key], groupby=by_model, groupby_aggfunc="mean", groupby_rangefunc="stddev")


def main() -> None:
    args = parse_args()
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            "no W&B key is configured; run `wandb login` or set WANDB_API_KEY; without an account: python scripts/report.py"
        )
    try:
        saved = workspace(args.entity, args.project).save()
    except (wandb.errors.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"W&B did not save the workspace in {args.entity}/{args.project}: {reason}") from None
    print(saved.url)


if __name__ == "__main__":
    guarded(main)
