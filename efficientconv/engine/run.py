"""A training run from its configuration to its summary."""

from __future__ import annotations

import warnings

from efficientconv.config import RunConfig
from efficientconv.data import fingerprint
from efficientconv.engine.continuation import found_data, refuse_other_images, refuse_other_processes
from efficientconv.engine.distributed import leave_world, start_world
from efficientconv.engine.divergence import Diverged
from efficientconv.engine.environment import environment, git_state
from efficientconv.engine.loop import Loop
from efficientconv.engine.metrics import Result
from efficientconv.engine.parts import Parts, build_parts
from efficientconv.engine.precision import device_name
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.records import Records
from efficientconv.engine.report import headline, result_lines, training_totals
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.engine.saver import Saver
from efficientconv.engine.status import Status
from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line
from efficientconv.signals import Preempted
from efficientconv.tracking.tracker import Tracker, start_tracker
from efficientconv.weights import write_weights


def train(config: RunConfig, preemption: Preemption | None = None, with_test: bool = True) -> dict:
    """Trains as `config` says and returns the summary; continues a run that was cut off, only reports a finished one.

    Args:
        preemption: one that may be installed already; without it one is made.
        with_test: false: the run stops before its look at the test images, as a search needs it; the summary is empty.

    Raises:
        UserError: a configuration, data set or run folder that cannot be used as asked; Diverged: a loss not finite.
        Preempted: a signal asked for the end; all that was done is saved.
    """
    world = start_world()
    found = world.main_first(lambda: found_data(config))
    images = None if found is None else fingerprint(found, config.data)
    folder = run_folder(config, images)
    folder.check(config)
    summary, copies = folder.summary(), []
    if summary is None:
        preemption = preemption or Preemption()
        preemption.together = world.size > 1
        preemption.install()
        run = Run(build_parts(config, world, preemption, found), folder)
        summary, copies = run.fit(with_test), run.copies
    elif world.is_main:
        folder.records()  # a start after the end is the user's look at the run: what it lacks is said
        if images is not None:
            refuse_other_images(folder, config, images)
        print(f"already trained; delete {folder.path} to train it again")
    if world.is_main:
        names = [name for name in ("", "ema_") if f"{name}top1" in summary]
        results = result_lines({name: Result.from_record(summary, name) for name in names})
        print(*results, f"run folder: {folder.path}", *copies, sep="\n")
    leave_world()
    return summary


class Run:
    """One start of a run: its parts at work in its folder. Only the main process writes."""

    def __init__(self, parts: Parts, folder: RunFolder):
        self.parts, self.folder, self.world, self.trainer = parts, folder, parts.world, parts.trainer
        self.config = parts.config
        minutes = self.config.trainer.checkpoint_minutes
        self.records = Records(folder.metrics_file)
        self.saver = Saver(self.trainer, self.records, folder.checkpoints, minutes, self.world, parts.preemption)
        self.status = Status(folder.path)
        self.copies: list[str] = []  # where the loggers have them, a line each
        self.code = git_state()  # now: by the end, the files may have become others

    def fit(self, with_test: bool = True) -> dict:
        """Trains the epochs that are left, evaluates the last one's weights on the test images, returns the summary."""
        self.world.main_first(self._take_folder)
        tracker = start_tracker(self.config.logger, self.folder.path) if self.world.is_main else Tracker()
        try:
            self._resume()
            Loop(self.parts, self.saver, self.records, self.status).run()
            summary = self._finish() if with_test else self._pause()
        except BaseException as error:
            self._end_early(error)
            if not isinstance(error, Preempted):  # then there is no time to wait: the loggers' copies end by themselves
                tracker.finish()
            raise
        self.copies = tracker.finish()
        return summary

    def _take_folder(self) -> None:
        """From here on the folder is this run's: whatever a user could have mistaken was refused before."""
        if not self.world.is_main:
            return
        self.lock = self.folder.hold(self.config)
        refuse_other_images(self.folder, self.config, self.parts.images)
        refuse_other_processes(self.folder, self.world.size)
        self.folder.read_json(self.folder.damaged_file.name)  # a damaged one is told now, not at the first damaged image
        self.saver.check_space()
        self.folder.claim(self.config)
        with refused_in_one_line(f"write into {self.folder.path}", "put out of the way what lies there, or make space"):
            make_folder(self.folder.checkpoints)
            self.folder.write_json("environment.json", environment(self.parts.device))
            self.folder.write_json("facts.json", self.parts.facts)
            self.folder.write_json(self.folder.classes_file.name, self.parts.data.classes)
        self.parts.data.damage.listen(self._note_damage)
        batch_size = self.config.trainer.global_batch_size
        print(headline(self.folder.path, self.parts.facts, batch_size, device_name(self.parts.device)))
        if passed_over := self.parts.data.passed_over:
            print(f"images: {passed_over}")
        print(f"images: {self.parts.loader}", flush=True)

    def _note_damage(self, image: str, reason: str) -> None:
        warnings.warn(f"the training image '{image}' is damaged ({reason}); another takes its place", stacklevel=2)
        try:
            self.folder.add_damaged(image, reason)
        except OSError as error:  # a full disk does not end a run, and the name was printed
            warnings.warn(f"could not note it in {self.folder.damaged_file} ({error.strerror})", stacklevel=2)

    def _resume(self) -> None:
        path = self.saver.load()
        if self.world.is_main:
            if path is not None:
                print(f"continuing after step {self.trainer.step} ({path.name})", flush=True)
            elif self.folder.metrics_file.exists():
                print(f"{self.folder.path} has no checkpoint: training starts anew", flush=True)
            # the epoch under way writes its record again, even if the record was written before the run was cut off
            self.records.restore()
            self.status.set("running", self.trainer.step)

    def _pause(self) -> dict:
        """Every epoch is trained; the same command goes on from here and looks at the test images."""
        self.saver.save_if_newer()
        if self.world.is_main:
            self.status.set("trained", self.trainer.step)
        return {}

    def _finish(self) -> dict:
        """The one look at the test images, the final weights, the summary."""
        self.saver.save_if_newer()  # where the disk was full when the last epoch ended
        summary = dict(self.parts.facts)
        for name, result in self.parts.evaluate(self.parts.data.test).items():
            summary |= result.record(name)
        summary |= training_totals(self.records.values) | self.code
        if self.world.is_main:
            summary |= self.parts.measured_time()  # last, so that nothing of the run comes after it
            self._write_results(summary)
            self.status.set("done", self.trainer.step)
        return summary

    def _write_results(self, summary: dict) -> None:
        if self.saver.saved_step < self.trainer.step or not self.records.write():
            raise UserError(
                f"training is done, but its last state could not be saved in {self.folder.path}; make space there, and the "
                f"same command continues after step {self.saver.saved_step}"
            )
        weights = self.trainer.model.state_dict(), self.config.model_dump(), self.parts.data.classes
        try:
            write_weights(self.folder.weights_file, *weights)
            self.folder.write_json("summary.json", summary)
        except OSError as error:
            raise UserError(
                f"training is done, but the results could not be written to {self.folder.path} ({error.strerror}); make "
                "space there, and the same command writes them"
            ) from None

    def _end_early(self, error: BaseException) -> None:
        """Says in status.json why, and loses nothing that a signal asked to keep."""
        if isinstance(error, Preempted):
            self.saver.save_if_newer()
        states = {Preempted: "preempted", Diverged: "diverged"}
        if self.world.is_main:
            reason = str(error) or type(error).__name__
            self.status.set(states.get(type(error), "failed"), self.saver.saved_step, reason)
