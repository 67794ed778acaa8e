"""Reads a run's TensorBoard files with TensorBoard itself: python tensorboard_test.py RUN.

Every step appears once with the loss that events.jsonl has, although the run was
stopped and resumed.
"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing import event_accumulator

run = pathlib.Path(sys.argv[1])
accumulator = event_accumulator.EventAccumulator(str(run / "tb"), size_guidance={"scalars": 0, "images": 0})
accumulator.Reload()
tags = accumulator.Tags()

want = {}
for line in (run / "events.jsonl").read_text().splitlines():
    event = json.loads(line)
    if event["event"] == "step":
        want[event["step"]] = event["loss"]
shown = {e.step: e.value for e in accumulator.Scalars("train/loss")}
assert len(accumulator.Scalars("train/loss")) == len(shown), "a step is shown twice"
assert shown.keys() == want.keys(), f"steps differ: {sorted(shown.keys() ^ want.keys())[:5]}"
for step, loss in want.items():
    assert abs(shown[step] - loss) <= 1e-6 * abs(loss), (step, shown[step], loss)
assert "samples" in tags["images"], tags
assert "config" in tags["tensors"] and "_hparams_/session_start_info" in tags["tensors"], tags
print(f"tensorboard: {len(want)} steps, {len(accumulator.Images('samples'))} grids")
