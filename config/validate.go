package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate reports everything that is wrong with the configuration on its own.
// What needs the machine (a missing directory, a device) is checked by those
// who use it.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, k := range allKeys() {
		text, ok := k.Value(c).(string)
		if ok && len(k.Choices) > 0 && !slices.Contains(k.Choices, text) {
			check(false, "%s is %q; choose one of %s", k.Name, text, strings.Join(k.Choices, ", "))
		}
	}
	check(c.Out != "", "out is empty; give the run a directory (--out DIR)")
	c.validateModel(check)
	check(c.Diffusion.Timesteps >= 1 && c.Diffusion.Timesteps <= 100_000, "diffusion.timesteps is %d; it must be 1 to 100000", c.Diffusion.Timesteps)
	check(c.Data.Name == "digits" || c.Data.Dir != "", "data.name %s needs data.dir, the directory that holds it", c.Data.Name)
	check(c.Train.LossGamma > 0, "train.loss_gamma is %g; it must be above 0", c.Train.LossGamma)
	c.validateClasses(check)
	check(c.Data.Holdout >= 0, "data.holdout is %d; it must be 0 (none) or more", c.Data.Holdout)
	c.validateTrain(check)
	c.validateCluster(check)
	check(c.Sample.Every >= 0, "sample.every is %d; it must be 0 or more", c.Sample.Every)
	check(c.Sample.Count >= 0, "sample.count is %d; it must be 0 or more", c.Sample.Count)
	check(c.Sample.Steps >= 1 && c.Sample.Steps <= c.Diffusion.Timesteps, "sample.steps is %d; it must be 1 to diffusion.timesteps (%d)", c.Sample.Steps, c.Diffusion.Timesteps)
	check(c.Sample.Eta >= 0 && c.Sample.Eta <= 1, "sample.eta is %g; it must be 0 to 1", c.Sample.Eta)
	check(c.HeldOut.Every >= 0, "heldout.every is %d; it must be 0 (no held-out loss) or more", c.HeldOut.Every)
	check(c.HeldOut.Every == 0 || c.Data.Holdout > 0 || c.Data.Name == "cifar10",
		"heldout.every is %d and data.holdout 0; set data.holdout to the number of images that are kept for it", c.HeldOut.Every)
	check(c.Checkpoint.MemoryEvery >= 0, "checkpoint.memory_every is %d; it must be 0 or more", c.Checkpoint.MemoryEvery)
	check(c.Checkpoint.Every >= 0, "checkpoint.every is %d; it must be 0 or more", c.Checkpoint.Every)
	wait, err := time.ParseDuration(c.Checkpoint.FullDiskWait)
	check(err == nil && wait >= 0, "checkpoint.full_disk_wait is %q; write a time such as 10m, or 0s", c.Checkpoint.FullDiskWait)
	check(c.Checkpoint.Keep >= 1, "checkpoint.keep is %d; keep at least 1", c.Checkpoint.Keep)
	check(c.Checkpoint.KeepEvery >= 0, "checkpoint.keep_every is %d; it must be 0 or more", c.Checkpoint.KeepEvery)
	for _, step := range c.Checkpoint.KeepAt {
		check(step >= 1, "checkpoint.keep_at has step %d; steps count from 1", step)
	}
	if _, err := ParseMirror(c.Checkpoint.Mirror); err != nil {
		check(false, "checkpoint.mirror %w", err)
	}
	wait, err = time.ParseDuration(c.Checkpoint.MirrorWait)
	check(err == nil && wait >= 0, "checkpoint.mirror_wait is %q; write a time such as 10m, or 0s", c.Checkpoint.MirrorWait)
	check(c.Checkpoint.Replicas >= 1, "checkpoint.replicas is %d; at least 1 node must write the checkpoints", c.Checkpoint.Replicas)
	check(c.Checkpoint.Resume != "", "checkpoint.resume is empty; choose auto, never or a directory")
	if c.Telemetry.OTLP != "" {
		_, port, err := net.SplitHostPort(c.Telemetry.OTLP)
		check(err == nil && port != "", "telemetry.otlp is %q; it must be HOST:PORT, as in localhost:4317", c.Telemetry.OTLP)
	}
	check(c.Log.Every >= 1, "log.every is %d; it must be 1 or more", c.Log.Every)
	check(c.Log.MeasureEvery >= 0, "log.measure_every is %d; it must be 1 or more, or 0 for never", c.Log.MeasureEvery)
	return errors.Join(errs...)
}

// validateClasses checks what conditional models need.
func (c *Config) validateClasses(check func(bool, string, ...any)) {
	k, dropout, scale := c.Model.NumClassEmbeds, c.Data.LabelDropout, c.Sample.Guidance
	check(k >= 0, "model.num_class_embeds is %d; it must be 0 (not conditional) or more", k)
	check(dropout >= 0 && dropout < 1, "data.label_dropout is %g; it must be in [0, 1)", dropout)
	check(k == 0 || dropout == 0 || k >= 2, "model.num_class_embeds is %d; with data.label_dropout it must be the classes and one more", k)
	check(dropout == 0 || k > 0, "data.label_dropout is %g and model.num_class_embeds 0; only a conditional model has labels to drop", dropout)
	check(scale >= 0, "sample.guidance_scale is %g; it must be 0 or more", scale)
	check(scale == 1 || k > 0 && dropout > 0, "sample.guidance_scale is %g; other scales than 1 need model.num_class_embeds and data.label_dropout", scale)
}

func (c *Config) validateModel(check func(bool, string, ...any)) {
	m := c.Model
	check(m.SampleSize >= 1, "model.sample_size is %d; it must be 1 or more", m.SampleSize)
	check(m.InChannels >= 1, "model.in_channels is %d; it must be 1 or more", m.InChannels)
	check(len(m.BlockOutChannels) >= 1, "model.block_out_channels is empty; give the channels of each level")
	check(m.NormNumGroups >= 1, "model.norm_num_groups is %d; it must be 1 or more", m.NormNumGroups)
	check(m.Dropout >= 0 && m.Dropout < 1, "model.dropout is %g; it must be in [0, 1)", m.Dropout)
	for _, level := range m.AttentionLevels {
		check(level >= 0 && level < len(m.BlockOutChannels), "model.attention_levels has %d; model.block_out_channels %v gives levels 0 to %d",
			level, m.BlockOutChannels, len(m.BlockOutChannels)-1)
	}
	if down := 1 << max(len(m.BlockOutChannels)-1, 0); m.SampleSize%down != 0 {
		check(false, "model.sample_size %d is not divisible by %d, which %d levels halve it by", m.SampleSize, down, len(m.BlockOutChannels))
	}
}

func (c *Config) validateTrain(check func(bool, string, ...any)) {
	t := c.Train
	check(t.Steps >= 1, "train.steps is %d; it must be 1 or more", t.Steps)
	check(t.GlobalBatch >= 1, "train.global_batch is %d; it must be 1 or more", t.GlobalBatch)
	check(t.Chunk >= 1, "train.chunk is %d; it must be 1 or more", t.Chunk)
	if t.GlobalBatch >= 1 && t.Chunk >= 1 {
		check(t.GlobalBatch%t.Chunk == 0, "train.global_batch %d is not divisible by train.chunk %d; choose a chunk that divides it (%s)",
			t.GlobalBatch, t.Chunk, divisors(t.GlobalBatch))
	}
	check(t.ClipGradNorm >= 0, "train.clip_grad_norm is %g; it must be 0 (off) or more", t.ClipGradNorm)
	check(t.EMADecay >= 0 && t.EMADecay < 1, "train.ema_decay is %g; it must be in [0, 1)", t.EMADecay)
	for i, l := range t.EMAProfiles {
		check(l >= 0.001 && l <= 0.28 && (i == 0 || l > t.EMAProfiles[i-1]),
			"train.ema_profiles is %v; lengths are parts of the training, from 0.001 to 0.28, ascending", t.EMAProfiles)
	}
	check(t.MaxSkipped >= 0, "train.max_skipped is %d; it must be 0 or more", t.MaxSkipped)
	check(t.DigestEvery >= 0, "train.digest_every is %d; it must be 0 (never) or more", t.DigestEvery)
	check(t.Threads >= 0 && t.Threads <= 1024, "train.threads is %d; it must be 0 (automatic) to 1024", t.Threads)
	check(c.LR.Base > 0, "lr.base is %g; it must be above 0", c.LR.Base)
	check(c.LR.Min >= 0 && c.LR.Min <= c.LR.Base, "lr.min is %g; it must be 0 to lr.base (%g)", c.LR.Min, c.LR.Base)
	check(c.LR.WarmupSteps >= 0, "lr.warmup_steps is %d; it must be 0 or more", c.LR.WarmupSteps)
	check(c.AllReduce.BucketMB > 0 && c.AllReduce.BucketMB <= 1024, "allreduce.bucket_mb is %g; it must be above 0 and at most 1024", c.AllReduce.BucketMB)
}

func (c *Config) validateCluster(check func(bool, string, ...any)) {
	k := c.Cluster
	check(k.Workers >= 1 && k.Workers <= 1024, "cluster.workers is %d; a node runs 1 to 1024 workers (--workers N)", k.Workers)
	if _, _, err := ParseNodes(k.Nodes); err != nil {
		check(false, "cluster.nodes is %w", err)
	}
	if _, err := ParseTopology(k.Topology); err != nil {
		check(false, "cluster.topology is %w", err)
	}
	check(k.Spares >= 0 && k.Spares <= 1000, "cluster.spares is %d; it must be 0 to 1000 nodes", k.Spares)
	check(k.RunID != "" && len(k.RunID) <= 200, "cluster.run_id has %d bytes; name the run with 1 to 200", len(k.RunID))
	if host, _, err := net.SplitHostPort(k.Bind); err == nil {
		check(false, "cluster.bind is %q; give the address alone, %q: ports have keys of their own, such as cluster.gossip_port", k.Bind, host)
	} else {
		check(net.ParseIP(k.Bind) != nil, "cluster.bind is %q; give an IP address of this node, such as 127.0.0.1, or 0.0.0.0 for all", k.Bind)
	}
	check(net.ParseIP(k.Advertise) != nil || !strings.ContainsAny(k.Advertise, ":[]/ "), "cluster.advertise is %q; give the address or name of this node alone, without a port", k.Advertise)
	for key, port := range map[string]int{"gossip_port": k.GossipPort, "rpc_port": k.RPCPort, "data_port": k.DataPort} {
		check(port >= 0 && port <= 65535, "cluster.%s is %d; a port is 0 (a free one) to 65535", key, port)
	}
	for _, seed := range k.Join {
		host, port, err := net.SplitHostPort(seed)
		n, notPort := strconv.ParseUint(port, 10, 16)
		check(err == nil && host != "" && notPort == nil && n > 0, "cluster.join has %q; write HOST:PORT, as 10.0.0.1:7946 or [fd00::2]:7946 (the first node prints it)", seed)
	}
	check(k.MaxRestarts >= 0, "cluster.max_restarts is %d; it must be 0 or more", k.MaxRestarts)
	for _, d := range []struct{ key, value string }{
		{"allreduce.timeout", c.AllReduce.Timeout},
		{"cluster.form_wait", k.FormWait},
		{"cluster.start_timeout", k.StartTimeout},
		{"cluster.step_deadline", k.StepDeadline},
		{"cluster.first_step_deadline", k.FirstDeadline},
		{"cluster.orphan_timeout", k.OrphanTimeout},
	} {
		v, err := time.ParseDuration(d.value)
		check(err == nil && v > 0, "%s is %q; write a time such as 30s or 2m", d.key, d.value)
	}
	wait, err := time.ParseDuration(k.LockWait)
	check(err == nil && wait >= 0, "cluster.lock_wait is %q; write a time such as 3m, or 0s", k.LockWait)
	check((k.CAFile == "") == (k.CertFile == "") && (k.CertFile == "") == (k.KeyFile == ""),
		"cluster.ca_file, cluster.cert_file and cluster.key_file belong together; give all three or none")
	check(k.Secret == "" || k.SecretFile == "", "cluster.secret and cluster.secret_file are both set; give one")
}

// Lone tells whether the run is one of a single node.
func (k Cluster) Lone() bool { return k.Nodes == "1" && k.Spares == 0 }

// Elastic tells whether the run may lose a node on purpose.
func (k Cluster) Elastic() bool {
	lo, hi, err := ParseNodes(k.Nodes)
	return err == nil && lo < hi || k.Spares > 0
}

// ParseNodes reads N or MIN:MAX.
func ParseNodes(s string) (lo, hi int, err error) {
	first, second, elastic := strings.Cut(s, ":")
	lo, err1 := strconv.Atoi(first)
	hi, err2 := lo, error(nil)
	if elastic {
		hi, err2 = strconv.Atoi(second)
	}
	if err1 != nil || err2 != nil || lo < 1 || hi < lo || hi > 10_000 {
		return 0, 0, fmt.Errorf("%q; write a number of nodes, or MIN:MAX", s)
	}
	return lo, hi, nil
}

// maxTopology is the longest cluster.topology in bytes: it is in every message about a member.
const maxTopology = 255

// ParseTopology reads a path such as "zone-a/rack-7" and returns it without empty levels: a
// label that a machine lacks is an empty one.
func ParseTopology(s string) (string, error) {
	if len(s) > maxTopology {
		return "", fmt.Errorf("%.40q..., %d bytes; give at most %d", s, len(s), maxTopology)
	}
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./", r)
	}
	if strings.ContainsFunc(s, other) {
		return "", fmt.Errorf("%q; write a path such as zone-a/rack-7, of letters, digits, '-', '_' and '.'", s)
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '/' }), "/"), nil
}

// Duration returns a duration that Validate has accepted.
func Duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("config: duration used before validation: " + s)
	}
	return d
}

func divisors(n int) string {
	var out []string
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			out = append(out, strconv.Itoa(d))
		}
	}
	if len(out) > 10 {
		out = append(append(out[:5:5], "..."), out[len(out)-4:]...)
	}
	return strings.Join(out, ", ")
}
