"""Weights with a card: the run nearest to the mean, its checksum, and the accuracy that the card says."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import command
from efficientconv import count, create_model, list_weights, load_run
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.trained_run import Classifier, read_run
from efficientconv.errors import UserError
from efficientconv.results.published import publish
from efficientconv.results.record import record_of, write_record
from efficientconv.weights import PUBLISHED, load_checked


@pytest.fixture(scope="module")
def runs(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The run itself, and two like it with another seed and a worse accuracy."""
    folder = tmp_path_factory.mktemp("runs")
    made = [folder / f"run{seed}" for seed in range(3)]
    for seed, run in enumerate(made):
        shutil.copytree(finished_run, run)
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("seed: 0", f"seed: {seed}"))
        summary = json.loads((run / "summary.json").read_text())
        worse = {"top1_percent": summary["top1_percent"] - 10 * seed}
        (run / "summary.json").write_text(json.dumps(summary | worse))
    return made


def test_published_weights_give_the_accuracy_of_their_card(finished_run: Path, tmp_path: Path) -> None:
    done = command("scripts/weights.py", "c_small", finished_run, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    folder, summary = tmp_path / "c_small", json.loads((finished_run / "summary.json").read_text())
    card = json.loads((folder / "card.json").read_text())
    assert all(card[key] == summary[key] for key in ("macs", "params", "top1_percent", "width"))
    assert card["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert_prepared_as(card, load_run(folder, device="cpu"))
    assert not any(str(finished_run.parent).encode() in path.read_bytes() for path in folder.iterdir())
    checked = command("eval.py", f"run={folder}", "data=digits")
    assert checked.returncode == 0, checked.stderr
    assert f"top-1 {summary['top1_percent']:.2f} %" in checked.stdout
    models = [create_model("c", 10, layout="cifar", width=0.125, weights=place) for place in (folder, finished_run)]
    assert all(torch.equal(a, b) for a, b in zip(*(model.state_dict().values() for model in models)))


def assert_prepared_as(card: dict, classifier: Classifier) -> None:
    """Whoever has the network of create_model alone reads in the card how to prepare images."""
    assert card["images"] == "RGB in 0..1, less mean, divided by std"
    images = torch.randint(0, 256, (2, 3, card["image_size"], card["image_size"]), dtype=torch.uint8)
    mean, std = (torch.tensor(card[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(classifier.preprocess(images), (images / 255 - mean) / std)


def test_the_run_nearest_to_the_mean_is_taken(runs: list[Path], tmp_path: Path) -> None:
    card = publish(runs, tmp_path / "c")
    assert card["run"] == "run1" and card["runs"] == 3
    accuracies = [json.loads((run / "summary.json").read_text())["top1_percent"] for run in runs]
    assert card["mean_top1_percent"] == pytest.approx(sum(accuracies) / 3, abs=1e-4)


def test_records_of_runs_whose_folders_are_elsewhere_count_for_the_mean(runs: list[Path], tmp_path: Path) -> None:
    records = [write_record(record_of(RunFolder(run)), tmp_path) for run in runs]
    some, all_ = publish([*runs[:2], *records], tmp_path / "c"), publish(runs, tmp_path / "d")
    assert (some["run"], some["runs"]) == ("run1", 3) and some["mean_top1_percent"] == all_["mean_top1_percent"]
    assert publish([runs[0], records[2]], tmp_path / "e")["run"] == "run0"  # only a folder has weights
    with pytest.raises(UserError, match="a record has no weights"):
        publish(records, tmp_path / "f")


def test_what_lies_in_the_way_is_not_overwritten(runs: list[Path], tmp_path: Path) -> None:
    """A name that is a run folder's, or leads elsewhere."""
    before = {path: path.read_bytes() for path in runs[1].rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds other files than weights"):
        publish(runs[:1], runs[1])
    assert before == {path: path.read_bytes() for path in runs[1].rglob("*") if path.is_file()}
    publish(runs[:1], tmp_path / "c")
    publish(runs[:2], tmp_path / "c")  # its own are made anew
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        publish(runs[:1], tmp_path / "file" / "c")
    done = command("scripts/weights.py", "../evil", runs[0], "--folder", tmp_path / "weights")
    assert done.returncode == 2 and "../evil" in done.stderr and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("lost", ["facts.json", "classes.json"])
def test_a_run_of_an_earlier_version_is_published_too(lost: str, runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    (tmp_path / "run" / lost).unlink()
    publish([tmp_path / "run"], tmp_path / "c")
    assert read_run(tmp_path / "c").classes == list("0123456789")


def test_damage_is_not_published_under_a_new_checksum(runs: list[Path], tmp_path: Path) -> None:
    """Weights without a checksum, as earlier versions wrote them, of which a bit was flipped: the checkpoint has one."""
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    tensors = load_checked(run / "model.safetensors").tensors
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, run / "model.safetensors")
    publish([run], tmp_path / "c")
    published = load_checked(tmp_path / "c" / "model.safetensors").tensors
    assert all(torch.equal(published[name], tensor) for name, tensor in expected.items())
    shutil.rmtree(run / "checkpoints")
    with pytest.warns(UserWarning, match="has no checksum"):
        publish([run], tmp_path / "again")


def test_what_does_not_belong_together_is_refused(runs: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("epochs: 2", "epochs: 3"))
    with pytest.raises(UserError, match="differ in more than their seed"):
        publish([*runs, other], tmp_path / "c")
    (other / "summary.json").unlink()
    with pytest.raises(UserError, match="not done"):
        publish([other], tmp_path / "c")
    assert not (tmp_path / "c").exists()


# ---------------------------------------------------------------- those of this repository


def waves(images: int = 300) -> Tensor:
    """Pictures that every machine draws alike: a wave of its own frequencies in each colour."""
    number, colour = torch.arange(images).view(-1, 1, 1, 1), torch.arange(3).view(1, -1, 1, 1)
    row, column = torch.arange(32).view(1, 1, -1, 1), torch.arange(32).view(1, 1, 1, -1)
    return torch.sin((number % 17 + colour) * row / 20 + (number % 13 - 2 * colour) * column / 15 + number * 0.1) * 1.5


MEAN_LOGITS = {  # of the waves, by the reference
    "a_cifar10": [2.7256, 0.6794, 1.5008, -0.2418, -2.0969, -1.939, -1.7489, -1.9099, 2.7736, 0.3419],
    "c_cifar10": [3.6123, -0.9132, 2.1441, 0.6033, -2.389, -1.7462, -1.7638, -2.426, 2.2562, 0.6408],
    "i_cifar10": [4.1443, 0.6581, 1.957, 0.1015, -3.3265, -2.0798, -1.6359, -3.2799, 2.6331, 0.7392],
    "m_cifar10": [3.3006, -1.2697, 4.0026, 0.8499, -2.4904, -1.0061, -1.45, -2.4354, 1.0248, -0.4401],
}


@pytest.mark.parametrize("name", list_weights())
def test_weights_of_the_repository_are_those_of_their_card(name: str) -> None:
    """Their accuracy is the card's command's affair, for it takes the images; here it is that nothing has changed."""
    card = json.loads((PUBLISHED / name / "card.json").read_text())
    assert card["sha256"] == hashlib.sha256((PUBLISHED / name / "model.safetensors").read_bytes()).hexdigest()
    network, classifier = create_model(card["model"], weights=name).eval(), load_run(name, device="cpu")
    cost = count(network, (3, card["image_size"], card["image_size"]))
    assert_prepared_as(card, classifier)
    assert (cost.macs, cost.params, len(classifier.run.classes)) == (card["macs"], card["params"], card["num_classes"])
    for model in (network, classifier.model):
        with torch.no_grad():
            logits = model(waves())
        torch.testing.assert_close(logits.mean(0), torch.tensor(MEAN_LOGITS[name]), rtol=0, atol=1e-3)
