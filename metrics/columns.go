package metrics

// Column is a number of step events as tables and charts show it.
type Column struct {
	Name  string // of the table's column
	Tag   string // TensorBoard's
	Value func(e Event) *float64
}

// Columns are the numbers of step events beside step, time, world size and generation,
// in the order of tables. What is told by rank appears as the largest of all ranks.
var Columns = []Column{
	{"loss", "train/loss", func(e Event) *float64 { return e.Loss }},
	{"loss_t_low", "loss_by_timestep/low", func(e Event) *float64 { return e.LossLow }},
	{"loss_t_mid", "loss_by_timestep/mid", func(e Event) *float64 { return e.LossMid }},
	{"loss_t_high", "loss_by_timestep/high", func(e Event) *float64 { return e.LossHigh }},
	{"grad_norm", "train/grad_norm", func(e Event) *float64 { return e.GradNorm }},
	{"agr_coefficient", "train/agr_coefficient", func(e Event) *float64 { return e.AGR }},
	{"update_norm", "train/update_norm", func(e Event) *float64 { return e.UpdateNorm }},
	{"param_norm", "train/param_norm", func(e Event) *float64 { return e.ParamNorm }},
	{"ema_distance", "train/ema_distance", func(e Event) *float64 { return e.EMADistance }},
	{"lr", "train/lr", func(e Event) *float64 { return e.LR }},
	{"images_per_s", "speed/images_per_s", func(e Event) *float64 { return positive(e.ImagesPerSecond) }},
	{"step_ms", "speed/step_ms", func(e Event) *float64 { return positive(e.StepMillis) }},
	{"data_ms_max", "speed/data_ms_max", func(e Event) *float64 { return largest(e.Data) }},
	{"compute_ms_max", "speed/compute_ms_max", func(e Event) *float64 { return largest(e.Compute) }},
	{"wait_ms_max", "speed/wait_ms_max", func(e Event) *float64 { return largest(e.Wait) }},
	{"rss_bytes_max", "run/rss_bytes_max", func(e Event) *float64 { return largest(e.RSS) }},
}

func positive(x float64) *float64 {
	if x <= 0 {
		return nil
	}
	return Finite(x)
}

func largest[T float64 | uint64](all []T) *float64 {
	if len(all) == 0 {
		return nil
	}
	most := all[0]
	for _, x := range all {
		most = max(most, x)
	}
	return Finite(float64(most))
}
