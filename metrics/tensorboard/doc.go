// Package tensorboard writes a run's events in TensorBoard's own file format: loss,
// gradient norm, learning rate and throughput as scalars, sample grids as images, the
// settings as hyperparameters and as text.
//
// Its one idea: it is a metrics.Sink, so TensorBoard sees what events.jsonl has and
// nothing else. A file begins with a session mark (SessionLog START) at its first
// step; TensorBoard drops what earlier files have from that step on, so a run that was
// resumed, or whose rank 0 moved, shows every step once.
//
// It writes the record and protobuf formats itself, with protowire; it reads nothing.
package tensorboard
