"""Reads a run's exports with the real libraries: python tables_test.py RUN DIR.

pandas reads the CSV and, through pyarrow, the Parquet file, and both are the same table
as events.jsonl; MLflow's own client reads the file store.
"""

import json
import os
import pathlib
import sys

import pandas as pd
import pyarrow.parquet as pq

run, made = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
steps = {}
for line in (run / "events.jsonl").read_text().splitlines():
    event = json.loads(line)
    if event["event"] == "step":
        steps[event["step"]] = event

csv = pd.read_csv(made / "steps.csv", parse_dates=["time"])
table = pd.read_parquet(made / "steps.parquet")
assert list(csv.columns) == list(table.columns), (csv.columns, table.columns)
assert list(table.step) == sorted(steps), "steps differ"
assert str(table.time.dtype).startswith("datetime64[ms, UTC"), table.time.dtype
for name in table.columns:
    if name != "time":
        pd.testing.assert_series_equal(csv[name].astype(float), table[name].astype(float), check_exact=True)
assert (csv.time == table.time).all()
for step, row in table.set_index("step").iterrows():
    event = steps[step]
    for name in ("loss", "grad_norm", "update_norm", "loss_t_low", "ema_distance"):
        assert (name in event) == bool(pd.notna(row[name])), (step, name)
        assert name not in event or row[name] == event[name], (step, name)
    assert row["compute_ms_max"] == max(event["compute_ms"]) if "compute_ms" in event else pd.isna(row["compute_ms_max"])
assert table.update_norm.notna().sum() >= 3
assert pq.ParquetFile(made / "steps.parquet").metadata.created_by == "agrdist"

history = [json.loads(line) for line in (made / "wandb" / "wandb-history.jsonl").read_text().splitlines()]
assert [row["_step"] for row in history] == list(table.step)
assert json.loads((made / "wandb" / "config.json").read_text())["train.global_batch"] == 16

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri="file://" + str(made / "mlruns"))
(found,) = client.search_runs(["0"])
assert found.info.status == "FINISHED", found.info
assert found.data.params["train.global_batch"] == "16"
losses = client.get_metric_history(found.info.run_id, "train/loss")
assert {m.step: m.value for m in losses} == {s: e["loss"] for s, e in steps.items()}
print(f"pandas {pd.__version__}, pyarrow: {len(table)} steps; mlflow: {len(losses)} losses")
