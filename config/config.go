package config

// Config is a run's whole configuration. The tags are read by Keys: mapstructure
// is the key, doc its description. bits:"yes" marks the settings that the model's
// bits depend on: they must agree with the checkpoint on a resume. scope:"node"
// marks what each node of a run may set for itself (of time limits and budgets,
// the coordinator's count); all other keys must be the same on every node.
type Config struct {
	Seed   uint64 `mapstructure:"seed" bits:"yes" doc:"seed of every random stream of the run"`
	Out    string `mapstructure:"out" is:"path" scope:"node" doc:"the run's directory: config, events, samples, checkpoints, logs"`
	Device string `mapstructure:"device" choices:"auto|cpu|cuda" scope:"node" doc:"auto, cpu or cuda (a build with -tags cuda); auto: a GPU where there is one"`

	Model      Model      `mapstructure:"model"`
	Diffusion  Diffusion  `mapstructure:"diffusion"`
	Data       Data       `mapstructure:"data"`
	Train      Train      `mapstructure:"train"`
	Optimizer  Optimizer  `mapstructure:"optimizer"`
	LR         LR         `mapstructure:"lr"`
	AllReduce  AllReduce  `mapstructure:"allreduce"`
	Cluster    Cluster    `mapstructure:"cluster"`
	Checkpoint Checkpoint `mapstructure:"checkpoint"`
	Sample     Sample     `mapstructure:"sample"`
	HeldOut    HeldOut    `mapstructure:"heldout"`
	Log        Log        `mapstructure:"log"`
	Dashboard  Dashboard  `mapstructure:"dashboard"`
	Telemetry  Telemetry  `mapstructure:"telemetry"`

	given map[string]bool // keys that a file, the environment or --set gave
}

// Model is the UNet; names and meanings are those of diffusers' UNet2DModel.
type Model struct {
	SampleSize           int     `mapstructure:"sample_size" bits:"yes" doc:"height and width of an image, pixels"`
	InChannels           int     `mapstructure:"in_channels" bits:"yes" doc:"image channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA; any number with data.name npz"`
	BlockOutChannels     []int   `mapstructure:"block_out_channels" bits:"yes" doc:"channels of each level"`
	LayersPerBlock       int     `mapstructure:"layers_per_block" bits:"yes" doc:"residual blocks a level on the way down (one more on the way up)"`
	AttentionLevels      []int   `mapstructure:"attention_levels" bits:"yes" doc:"levels with self-attention, 0 is the full size"`
	AddAttention         bool    `mapstructure:"add_attention" bits:"yes" doc:"self-attention in the middle of the network"`
	NormNumGroups        int     `mapstructure:"norm_num_groups" bits:"yes" doc:"groups of every GroupNorm; divides every channel count"`
	NormEps              float64 `mapstructure:"norm_eps" bits:"yes" doc:"epsilon of every GroupNorm"`
	Dropout              float64 `mapstructure:"dropout" bits:"yes" doc:"dropout probability inside residual blocks, in [0, 1)"`
	FreqShift            int     `mapstructure:"freq_shift" bits:"yes" doc:"0 or 1: shift of the time embedding's frequencies"`
	FlipSinToCos         bool    `mapstructure:"flip_sin_to_cos" bits:"yes" doc:"time embedding as [cos, sin] instead of [sin, cos]"`
	DownsamplePadding    int     `mapstructure:"downsample_padding" bits:"yes" doc:"1: symmetric; 0: right and bottom (google/ddpm-*)"`
	AttentionHeadDim     int     `mapstructure:"attention_head_dim" bits:"yes" doc:"channels of an attention head; 0: a single head"`
	ResnetTimeScaleShift string  `mapstructure:"resnet_time_scale_shift" choices:"default|scale_shift" bits:"yes" doc:"what the time embedding does in a residual block: default (it is added to the first convolution's output) or scale_shift (it scales and shifts the second norm's output, as in ADM)"`
	NumClassEmbeds       int     `mapstructure:"num_class_embeds" bits:"yes" doc:"class embeddings of a conditional model: the classes, and one more where labels are dropped; 0: not conditional"`
}

// Diffusion is the forward process and what the model predicts.
type Diffusion struct {
	Timesteps  int    `mapstructure:"timesteps" bits:"yes" doc:"length T of the forward process"`
	Schedule   string `mapstructure:"schedule" choices:"linear|cosine|sigmoid" bits:"yes" doc:"linear, cosine or sigmoid"`
	Prediction string `mapstructure:"prediction" choices:"epsilon|sample|v_prediction" bits:"yes" doc:"epsilon, sample (x0) or v_prediction"`
}

// Data is the training set.
type Data struct {
	Name         string  `mapstructure:"name" choices:"digits|cifar10|records|folder|npz" bits:"yes" doc:"digits (embedded), cifar10 (its files), records (any *.bin of such records), folder (images: PNG, JPEG, WebP, BMP, GIF, TIFF) or npz (NumPy array, uint8 N x H x W x C; labels beside it)"`
	Dir          string  `mapstructure:"dir" is:"path" scope:"node" doc:"where the files are, of npz the file; all but digits need it"`
	Flip         bool    `mapstructure:"flip" bits:"yes" doc:"flip images left to right with probability 1/2"`
	LabelDropout float64 `mapstructure:"label_dropout" bits:"yes" doc:"probability that a conditional model sees no label (the last class embedding); guidance needs about 0.1"`
	Holdout      int     `mapstructure:"holdout" bits:"yes" doc:"images that are not trained on, spread evenly over the data set; 0: none"`
	Verify       string  `mapstructure:"verify" choices:"auto|header|full" scope:"node" doc:"folder: what is read of every file before a run starts: header, full (decode it), or auto: full where all files together have at most 256 MiB"`
	Corrupt      string  `mapstructure:"corrupt" choices:"refuse|skip" doc:"folder: images that cannot be used: refuse (end before the run starts) or skip (leave them out)"`
	Fingerprint  string  `mapstructure:"fingerprint" bits:"yes" doc:"identifies the images; a run fills it in. Where it is given, other images are refused"`
}

// Train is the step.
type Train struct {
	Steps         int64   `mapstructure:"steps" doc:"optimizer steps of the run; a finished run continues when it is raised"`
	GlobalBatch   int     `mapstructure:"global_batch" bits:"yes" doc:"images a step over all workers; fixed whatever their number"`
	Chunk         int     `mapstructure:"chunk" bits:"yes" doc:"images of one forward and backward pass; divides global_batch. At most global_batch/chunk workers have work"`
	Precision     string  `mapstructure:"precision" choices:"f32|bf16" bits:"yes" doc:"f32, or bf16: inputs of matmuls and convolutions are rounded to bf16, on a GPU the activations too (sums, parameters and state stay f32)"`
	CPU           string  `mapstructure:"cpu" choices:"auto|portable" doc:"auto (the fastest kernels of each processor; all workers must have the same) or portable: the same bits on every processor, so that workers on different ones can train together and a run can move between them. AGRDIST_CPU forces one set of kernels on a node"`
	LossWeighting string  `mapstructure:"loss_weighting" choices:"none|min_snr|p2" bits:"yes" doc:"none, min_snr or p2: how much the error counts by timestep"`
	LossGamma     float64 `mapstructure:"loss_gamma" bits:"yes" doc:"gamma of the weighting: 5 is usual for min_snr, 1 for p2"`
	ClipGradNorm  float64 `mapstructure:"clip_grad_norm" bits:"yes" doc:"gradients are scaled down to this global norm; 0: no clipping"`
	EMADecay      float64 `mapstructure:"ema_decay" bits:"yes" doc:"decay of the weights' moving average; 0: none"`
	// EMAProfiles are optim.Profiles' lengths.
	EMAProfiles []float64 `mapstructure:"ema_profiles" bits:"yes" doc:"lengths of power-function averages that are kept besides, as parts of the training, ascending: [0.05, 0.1] as in EDM2. agrdist checkpoint export --ema-length makes averages of other lengths of them. Each takes the memory of the parameters again"`
	MaxSkipped  int       `mapstructure:"max_skipped" doc:"stop after this many steps in a row whose loss or gradient is not finite"`
	DigestEvery int64     `mapstructure:"digest_every" doc:"compare the parameters of all ranks every so many steps, and the whole state before each checkpoint; 0: only then"`
	Threads     int       `mapstructure:"threads" scope:"node" doc:"threads of a worker; 0: cores / workers on the node"`
	PinThreads  bool      `mapstructure:"pin_threads" scope:"node" doc:"keep each thread of a worker on a core of its own (Linux); for a machine that runs nothing else"`
}

// Optimizer is the rule that applies the reduced gradient. Unset values take the
// reference implementation's defaults.
type Optimizer struct {
	Name        string    `mapstructure:"name" choices:"adan|adamw|adam|rmsprop|acprop|sgdm|lion" bits:"yes" doc:"adan, adamw, adam, rmsprop, acprop, sgdm or lion"`
	AGR         bool      `mapstructure:"agr" bits:"yes" doc:"Adaptive Gradient Regularization in front of the optimizer (arXiv 2407.16944)"`
	AGRTensors  string    `mapstructure:"agr_tensors" choices:"all|vectors|weights" bits:"yes" doc:"ablation of agr: all tensors (the paper), vectors (biases and the weights of norms) or weights (all others)"`
	AGROrder    string    `mapstructure:"agr_order" choices:"after_clip|before_clip" bits:"yes" doc:"ablation of agr: after_clip (the paper: train.clip_grad_norm bounds the gradient's norm) or before_clip (it bounds the norm of what agr leaves)"`
	AGRScope    string    `mapstructure:"agr_scope" choices:"tensor|group" bits:"yes" doc:"ablation of agr: the L1 norm of each tensor (the paper) or of the group of all that agr_tensors names"`
	Betas       []float64 `mapstructure:"betas" bits:"yes" doc:"moment decays, as many as the optimizer has"`
	Eps         *float64  `mapstructure:"eps" bits:"yes" doc:"denominator's epsilon"`
	WeightDecay *float64  `mapstructure:"weight_decay" bits:"yes" doc:"weight decay, decoupled or L2 as the optimizer defines it"`
	Momentum    *float64  `mapstructure:"momentum" bits:"yes" doc:"sgdm, rmsprop"`
	Alpha       *float64  `mapstructure:"alpha" bits:"yes" doc:"rmsprop: decay of the squared gradient"`
	Dampening   *float64  `mapstructure:"dampening" bits:"yes" doc:"sgdm"`
	Nesterov    *bool     `mapstructure:"nesterov" bits:"yes" doc:"sgdm"`
	Centered    *bool     `mapstructure:"centered" bits:"yes" doc:"rmsprop"`
	NoProx      *bool     `mapstructure:"no_prox" bits:"yes" doc:"adan: decay before the update instead of the proximal form"`
	Rectify     *bool     `mapstructure:"rectify" bits:"yes" doc:"acprop: rectification of the adaptive step"`
}

// LR is the learning rate, a function of the global step alone.
type LR struct {
	Base        float64 `mapstructure:"base" bits:"yes" doc:"learning rate after the warm-up"`
	WarmupSteps int64   `mapstructure:"warmup_steps" bits:"yes" doc:"steps of linear warm-up; step s has factor min(s, warmup)/warmup, so the first is 0"`
	Schedule    string  `mapstructure:"schedule" choices:"constant|linear|cosine" bits:"yes" doc:"after the warm-up: constant, linear or cosine to lr.min at train.steps"`
	Min         float64 `mapstructure:"min" bits:"yes" doc:"where linear and cosine end"`
}

// AllReduce is the sum of gradients over workers.
type AllReduce struct {
	Order    string  `mapstructure:"order" choices:"tree|ring" doc:"tree: one order of summation for any number of workers; ring: fastest, order depends on their number. GPUs exchange by NCCL where all workers have it, and ring is its own all-reduce"`
	BucketMB float64 `mapstructure:"bucket_mb" doc:"size of a gradient bucket, MiB"`
	Security string  `mapstructure:"security" choices:"mac|aead|none" doc:"protection of gradients between hosts: mac (a relay that alters them is found), aead (encrypted too) or none; the same on all nodes. Within a host, and by NCCL, they travel unprotected"`
	Timeout  string  `mapstructure:"timeout" doc:"longest wait of one operation, as 2m; above the time between the fastest and the slowest worker"`
}

// Cluster is where the processes are and how they find each other.
type Cluster struct {
	Workers       int      `mapstructure:"workers" doc:"worker processes on a node, the same on all nodes of a run; where GPUs train, one for each (and that is the default)"`
	Nodes         string   `mapstructure:"nodes" doc:"nodes of the run, N or MIN:MAX; below MIN it waits"`
	Spares        int      `mapstructure:"spares" doc:"further nodes that hold the state of every step without computing, and take a lost one's place at once; 0: none"`
	Node          string   `mapstructure:"node" scope:"node" doc:"this node's name; empty: kept in the run's directory, made of the host's name"`
	Topology      string   `mapstructure:"topology" scope:"node" doc:"where this node is, from the widest to the narrowest, as zone-a/rack-7: nodes of one rack get ranks next to each other; empty: not known"`
	RunID         string   `mapstructure:"run_id" doc:"name of the run, the same on all its nodes; keeps runs that share seeds or a network apart"`
	Bind          string   `mapstructure:"bind" is:"host" scope:"node" doc:"IP address to listen on: 127.0.0.1, that of an interface, or 0.0.0.0 for all; beyond loopback a secret is needed"`
	GossipPort    int      `mapstructure:"gossip_port" scope:"node" doc:"membership port, TCP and UDP; 0: a free one"`
	RPCPort       int      `mapstructure:"rpc_port" scope:"node" doc:"the coordinator's gRPC port; 0: a free one"`
	DataPort      int      `mapstructure:"data_port" scope:"node" doc:"first port of the workers' gradient exchange; 0: free ones"`
	Advertise     string   `mapstructure:"advertise" is:"host" scope:"node" doc:"address others reach this node at; empty: cluster.bind"`
	Join          []string `mapstructure:"join" scope:"node" doc:"HOST:PORT of nodes that are in the run; empty: this node starts it"`
	Secret        string   `mapstructure:"secret" scope:"node" doc:"shared secret, better given as AGRDIST_CLUSTER_SECRET"`
	SecretFile    string   `mapstructure:"secret_file" is:"path" scope:"node" doc:"file with the shared secret, which may be replaced during the run (docs/security.md)"`
	CAFile        string   `mapstructure:"ca_file" is:"path" scope:"node" doc:"authorities that members of the run are certified by, PEM, for the coordinator's connections; empty: one that follows from the secret"`
	CertFile      string   `mapstructure:"cert_file" is:"path" scope:"node" doc:"this node's certificate, PEM, its chain after it; it names the node (agrdist pki makes them). Read again when it changes"`
	KeyFile       string   `mapstructure:"key_file" is:"path" scope:"node" doc:"private key of cluster.cert_file, PEM"`
	FormWait      string   `mapstructure:"form_wait" scope:"node" doc:"how long a run of MIN:MAX nodes waits for more than MIN before it begins"`
	LockWait      string   `mapstructure:"lock_wait" scope:"node" doc:"how long a start waits for another process that uses the run's directory, and may be stopping, to end; 0s: it is refused at once"`
	StartTimeout  string   `mapstructure:"start_timeout" scope:"node" doc:"give up when the run's workers have not met after this time"`
	MaxRestarts   int      `mapstructure:"max_restarts" scope:"node" doc:"restarts of crashed workers an hour over the whole run; one more crash saves and ends it (workers killed from outside do not count)"`
	StepDeadline  string   `mapstructure:"step_deadline" scope:"node" doc:"shortest time without progress after which a worker counts as hung; five times the slowest recent step where that is longer, and 10s where all wait for one another, so that only a link can be at fault"`
	FirstDeadline string   `mapstructure:"first_step_deadline" scope:"node" doc:"the same before the first step, whose time is not known yet"`
	OrphanTimeout string   `mapstructure:"orphan_timeout" scope:"node" doc:"a node that reaches no coordinator for this long saves its state and leaves the run"`
	AllowMinority bool     `mapstructure:"allow_minority" scope:"node" doc:"continue without a majority of the last generation (both sides of a partition may then train)"`
}

// Checkpoint is what is saved.
type Checkpoint struct {
	Every        int64   `mapstructure:"every" doc:"steps between checkpoints; 0: only at the end and at a stop"`
	MemoryEvery  int64   `mapstructure:"memory_every" doc:"steps between copies of the state into memory of each node's agent, from where a run continues that lost all workers; two copies take twice the state's bytes on every node; 0: none"`
	FullDiskWait string  `mapstructure:"full_disk_wait" doc:"how long to wait for room where the disk is full at the end or at a stop; 0s: not at all"`
	Keep         int     `mapstructure:"keep" doc:"newest checkpoints kept"`
	KeepEvery    int64   `mapstructure:"keep_every" doc:"never remove the checkpoint of a step that this divides; 0: no such rule"`
	KeepAt       []int64 `mapstructure:"keep_at" doc:"steps whose checkpoint is saved and never removed, for an evaluation later"`
	Mirror       string  `mapstructure:"mirror" doc:"object store that checkpoints are copied to, and resumed from where it has a newer one: s3://BUCKET/PREFIX, with ?endpoint=https://HOST:PORT, &region=NAME, &path_style=true for others than Amazon's. Credentials come from the environment (AWS_ACCESS_KEY_ID, ...), a mounted file or the service account; empty: none"`
	MirrorWait   string  `mapstructure:"mirror_wait" scope:"node" doc:"how long the end of a run waits for its last checkpoint to be in checkpoint.mirror; a stop waits 2m at most"`
	Replicas     int     `mapstructure:"replicas" doc:"nodes that write each checkpoint to a disk of their own: with 2, a node that is lost with its disk costs nothing; nodes that share the run's directory count as one"`
	Resume       string  `mapstructure:"resume" is:"path" scope:"node" doc:"auto: continue from the newest checkpoint that verifies; never: start from scratch; or a run or checkpoint directory to start from"`
}

// Sample is the grid of generated images.
type Sample struct {
	Every    int64   `mapstructure:"every" doc:"steps between sample grids; 0: only at the end"`
	Count    int     `mapstructure:"count" doc:"images of a grid; 0: no grids"`
	Sampler  string  `mapstructure:"sampler" choices:"ddim|ddpm|dpmpp_2m|heun" doc:"ddim, ddpm, dpmpp_2m (DPM-Solver++(2M), good in 20 steps) or heun (two calls of the model a step)"`
	Steps    int     `mapstructure:"steps" doc:"sampler steps"`
	Spacing  string  `mapstructure:"spacing" choices:"linear|leading|trailing|quadratic|paper" doc:"which timesteps: linear, leading, trailing, quadratic or paper"`
	Eta      float64 `mapstructure:"eta" doc:"ddim noise: 0 deterministic, 1 as ddpm"`
	Variance string  `mapstructure:"variance" choices:"fixedlarge|fixedsmall" doc:"ddpm: fixedlarge or fixedsmall"`
	Clip     string  `mapstructure:"clip" choices:"before|after|none" doc:"x0 to [-1, 1] before the mean, after it (as the paper's code), or none"`
	Guidance float64 `mapstructure:"guidance_scale" doc:"classifier-free guidance of a conditional model: 1 is none; other scales need data.label_dropout"`
	Raw      bool    `mapstructure:"raw" doc:"raw weights instead of their moving average"`
}

// HeldOut is the loss on images that are not trained on.
type HeldOut struct {
	Every int64 `mapstructure:"every" doc:"steps between measurements of the held-out loss, and one at the end, on data.holdout or CIFAR-10's test images; 0: none. Changes no bit of the model"`
	Raw   bool  `mapstructure:"raw" doc:"of the raw weights instead of their moving average"`
}

// Log is what a person reads.
type Log struct {
	Level string `mapstructure:"level" choices:"debug|info|warn|error" scope:"node" doc:"debug, info, warn or error"`
	// Format is how run speaks to people or to a collector of logs.
	Format string `mapstructure:"format" choices:"text|json" scope:"node" doc:"what run prints, and its log files: text, or json, one object a line on stdout"`
	Every  int64  `mapstructure:"every" doc:"steps between step events"`
	// MeasureEvery is rounded up to steps that have an event.
	MeasureEvery int64 `mapstructure:"measure_every" doc:"steps between measurements of loss by timestep, update norm, EMA distance and each rank's times; 0: none"`
	// TensorBoard is a second form of the events.
	TensorBoard bool `mapstructure:"tensorboard" scope:"node" doc:"write TensorBoard event files to tb/ in the run's directory"`
}

// JSON is the value of log.format for collectors of logs.
const JSON = "json"

// Off is the value of a setting that switches something off.
const Off = "off"

// Dashboard is the page of a run.
type Dashboard struct {
	Bind string `mapstructure:"bind" scope:"node" doc:"HOST:PORT of the run's status page and metrics, port 0: a free one; beyond loopback a secret is needed; or off"`
	// CertFile and KeyFile are PEM files.
	CertFile string `mapstructure:"cert_file" is:"path" scope:"node" doc:"certificate of the page, PEM, its chain after it; empty: one that follows from the secret"`
	KeyFile  string `mapstructure:"key_file" is:"path" scope:"node" doc:"private key of dashboard.cert_file, PEM"`
}

// Telemetry is what a run sends elsewhere by itself.
type Telemetry struct {
	OTLP     string `mapstructure:"otlp" scope:"node" doc:"HOST:PORT of an OpenTelemetry collector (OTLP over gRPC) that gets traces; empty: none"`
	Insecure bool   `mapstructure:"insecure" scope:"node" doc:"talk to the collector without TLS"`
}

// Default is what every key is where nothing gives it: a small model of the embedded
// digits, not conditional. What `agrdist run` does without a configuration file is
// Quickstart.
func Default() Config {
	return Config{
		Seed: 42, Out: "runs/digits", Device: "auto",
		Model: Model{
			SampleSize: 8, InChannels: 1, BlockOutChannels: []int{32, 64}, LayersPerBlock: 1,
			AttentionLevels: []int{1}, AddAttention: true, NormNumGroups: 8, NormEps: 1e-5, DownsamplePadding: 1,
			ResnetTimeScaleShift: "default",
		},
		Diffusion: Diffusion{Timesteps: 1000, Schedule: "linear", Prediction: "epsilon"},
		Data:      Data{Name: "digits", Verify: "auto", Corrupt: "refuse"},
		Train: Train{
			Steps: 1200, GlobalBatch: 32, Chunk: 8, Precision: "f32", CPU: "auto", LossWeighting: "none", LossGamma: 5, ClipGradNorm: 1,
			EMADecay: 0.99, MaxSkipped: 10, DigestEvery: 100,
		},
		Optimizer: Optimizer{Name: "adan", AGR: true, AGRTensors: "all", AGROrder: "after_clip", AGRScope: "tensor"},
		LR:        LR{Base: 2e-3, WarmupSteps: 100, Schedule: "cosine"},
		AllReduce: AllReduce{Order: "tree", BucketMB: 4, Security: "mac", Timeout: "2m"},
		Cluster: Cluster{
			Workers: 2, Nodes: "1", RunID: "agrdist", Bind: "127.0.0.1", FormWait: "30s", LockWait: "0s", StartTimeout: "2m",
			MaxRestarts: 20, StepDeadline: "1m", FirstDeadline: "5m", OrphanTimeout: "10m",
		},
		Checkpoint: Checkpoint{Every: 300, Keep: 3, Replicas: 2, Resume: "auto", FullDiskWait: "10m", MirrorWait: "10m"},
		Sample: Sample{
			Count: 64, Sampler: "ddim", Steps: 50, Spacing: "leading", Variance: "fixedlarge", Clip: "before", Guidance: 1,
		},
		Log:       Log{Level: "info", Format: "text", Every: 1, MeasureEvery: 50, TensorBoard: true},
		Dashboard: Dashboard{Bind: "127.0.0.1:0"},
	}
}

// Quickstart is what `agrdist run` does without a configuration file: digits that are
// sampled by class, which a person can read after half a minute of training on two
// cores. configs/digits.yaml is the same.
func Quickstart() Config {
	c := Default()
	c.Model.NumClassEmbeds, c.Data.LabelDropout, c.Sample.Guidance = 11, 0.1, 2
	c.Diffusion.Schedule, c.Diffusion.Prediction = "cosine", "v_prediction"
	c.Train.Steps, c.LR.Base = 1600, 4e-3
	c.Sample.Count, c.Sample.Sampler, c.Sample.Steps = 100, "dpmpp_2m", 20
	return c
}
