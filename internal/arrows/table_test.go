package arrows

// allowed says what of this module each package may import. A new package gets a
// line here and a line in the drawing of docs/design.md ("The house").
var allowed = map[string]string{
	"cmd/agrdist": "internal/filelock metrics/export internal/flight eval/npz diffusion/unet compare allreduce/mesh eval/suite eval/inception eval/judge internal/text data data/fetch launch recipe worker bench doctor setup rundir config metrics status status/trainjob checkpoint cluster cluster/security allreduce " +
		"diffusion nn/weights optim internal/grid internal/version",
	"launch": "checkpoint/mirror checkpoint/mirror/s3 internal/sealed internal/vfs internal/text agent recipe worker/spec setup rundir config data status metrics checkpoint cluster cluster/membership cluster/security cluster/supervise internal/version",

	"agent": "internal/flight internal/sealed internal/vfs worker/spec rundir config cluster cluster/coordinator cluster/membership cluster/node cluster/security cluster/supervise",
	"worker": "internal/flight worker/spec worker/usage cluster/supervise recipe setup rundir trainer config metrics metrics/otlp metrics/tensorboard data checkpoint cluster cluster/coordinator cluster/security allreduce allreduce/mesh " +
		"diffusion diffusion/unet eval/heldout nn/weights tensor internal/grid internal/version",
	"worker/spec":  "cluster internal/text",
	"worker/usage": "cluster",

	"doctor": "cluster/preflight allreduce/nccl tensor/cpu internal/cuda/cublaslt internal/cuda/cudnn internal/cuda/dl internal/cuda/driver internal/cuda/nvrtc internal/cuda/selftest",
	"bench": "setup trainer cluster config agr optim allreduce allreduce/mesh diffusion/unet tensor tensor/cpu bench/probe parallel rng " +
		"internal/sharedmem internal/version",
	"bench/probe": "internal/isa",
	"setup": "internal/sealed internal/vfs config data agr optim allreduce allreduce/nccl diffusion diffusion/unet nn tensor tensor/cpu tensor/cuda parallel " +
		"internal/cuda/cublaslt internal/cuda/cudnn internal/cuda/driver internal/cuda/nvrtc",

	"compare":                         "config eval/suite internal/markup",
	"eval":                            "eval/npz",
	"eval/classifier":                 "eval checkpoint/safetensors data nn autograd optim tensor rng",
	"eval/classifier/internal/digits": "eval/classifier data tensor/cpu",
	"eval/heldout":                    "diffusion rng",
	"eval/inception":                  "checkpoint/safetensors checkpoint/pth tensor",
	"eval/judge":                      "recipe setup config data diffusion diffusion/unet eval eval/classifier eval/heldout eval/inception eval/npz eval/suite nn/weights",
	"eval/npz":                        "",
	"eval/suite":                      "eval internal/filelock",

	"recipe":              "internal/isa rundir setup config checkpoint diffusion diffusion/unet",
	"rundir":              "internal/sealed internal/vfs checkpoint checkpoint/pytorchddpm nn/weights",
	"trainer":             "internal/flight cluster checkpoint allreduce diffusion diffusion/unet nn agr optim tensor rng",
	"config":              "",
	"status":              "cluster internal/gate internal/markup metrics",
	"status/trainjob":     "",
	"metrics":             "",
	"metrics/export":      "metrics",
	"metrics/otlp":        "metrics",
	"metrics/tensorboard": "metrics",

	"cluster":             "",
	"cluster/clusterpb":   "",
	"cluster/coordinator": "internal/sealed internal/text internal/vfs cluster cluster/clusterpb cluster/security",
	"cluster/node":        "cluster",
	"cluster/membership":  "cluster/security internal/gate",
	"cluster/preflight":   "",
	"cluster/security":    "internal/gate",
	"cluster/simulate":    "",
	"cluster/supervise":   "",

	"checkpoint":                  "internal/filelock checkpoint/pth checkpoint/safetensors internal/vfs nn/weights",
	"checkpoint/mirror":           "checkpoint",
	"checkpoint/mirror/s3":        "checkpoint/mirror",
	"checkpoint/mirror/s3/s3test": "",
	"checkpoint/pth":              "",
	"checkpoint/pytorchddpm":      "checkpoint/pth nn/weights",
	"checkpoint/safetensors":      "",
	"data":                        "data/imagefile eval/npz rng",
	"data/fetch":                  "data",
	"data/imagefile":              "",

	"diffusion":          "internal/portable rng",
	"diffusion/unet":     "nn autograd tensor rng",
	"nn":                 "autograd tensor rng nn/weights",
	"nn/weights":         "",
	"autograd":           "tensor",
	"autograd/gradcheck": "tensor rng",

	"allreduce":               "tensor internal/sharedmem",
	"allreduce/allreducetest": "allreduce tensor",
	"allreduce/mesh":          "internal/flight allreduce internal/gate internal/sharedmem",
	"allreduce/nccl":          "allreduce tensor internal/cuda/dl",

	"tensor":                          "",
	"tensor/cpu":                      "tensor tensor/cpu/internal/kernel tensor/internal/shapes internal/isa internal/portable internal/sharedmem parallel rng",
	"tensor/cpu/internal/kernel":      "internal/isa internal/portable rng",
	"tensor/cpu/internal/kernel/neon": "internal/neon tensor/cpu/internal/kernel",
	"tensor/cuda": "tensor tensor/internal/shapes agr optim internal/cuda/cublaslt internal/cuda/cudnn internal/cuda/driver " +
		"internal/cuda/nvrtc",
	"tensor/internal/shapes": "tensor",
	"tensor/tensortest":      "tensor rng",

	"agr":               "optim tensor internal/isa",
	"agr/internal/neon": "internal/neon",
	"optim":             "tensor internal/portable",

	"internal/arrows":        "",
	"internal/cuda/cublaslt": "internal/cuda/dl",
	"internal/cuda/cudatest": "internal/cuda/dl internal/cuda/driver internal/cuda/nvrtc",
	"internal/cuda/cudnn":    "internal/cuda/dl internal/cuda/cublaslt internal/cuda/nvrtc",
	"internal/cuda/dl":       "",
	"internal/cuda/driver":   "internal/cuda/dl",
	"internal/cuda/nvrtc":    "internal/cuda/dl",
	"internal/cuda/selftest": "internal/cuda/cublaslt internal/cuda/cudnn internal/cuda/driver internal/cuda/nvrtc",
	"internal/filelock":      "",
	"internal/flight":        "",
	"internal/gate":          "",
	"internal/grid":          "",
	"internal/isa":           "",
	"internal/leaktest":      "",
	"internal/neon":          "",
	"internal/portable":      "",
	"internal/sealed":        "internal/vfs",
	"internal/sharedmem":     "",
	"internal/markup":        "",
	"internal/text":          "",
	"internal/version":       "",
	"internal/vfs":           "internal/filelock",
	"internal/vfs/vfstest":   "internal/vfs",
	"parallel":               "",
	"rng":                    "internal/portable",

	"hack/deadexports": "",
	"hack/e2e":         "",
	"hack/e2e/pause":   "",
	"hack/promcheck":   "status",
	"hack/reliability": "metrics",
	"hack/benchstatus": "metrics status",
	"hack/k8scheck":    "",
	"hack/k8sschema":   "",
	"hack/testreport":  "",
}

// ban forbids an import, also through other packages of this module. A path ends in
// "/..." where all below it is meant.
type ban struct {
	from   []string // packages that it binds; empty: all but except
	except []string
	to     []string
	tests  bool // binds test files too
	direct bool // binds what a package imports itself, not what it reaches
	why    string
}

var (
	network = []string{"google.golang.org/grpc/...", "github.com/hashicorp/memberlist/..."}
	effects = []string{"os/...", "net/...", "io/...", "context", "sync/...", "log/slog", "math/rand/..."}
	// standard are the packages of the standard library that bans name.
	standard = append([]string{"log", "math/rand"}, effects...)
)

var bans = []ban{
	{
		except: []string{"checkpoint/mirror/s3/..."}, to: []string{"github.com/minio/minio-go/..."}, tests: true, direct: true,
		why: "object stores are reached through checkpoint/mirror.Bucket",
	},
	{
		except: []string{"config", "cmd/agrdist"}, to: []string{"github.com/spf13/viper/..."}, tests: true, direct: true,
		why: "settings are typed Config structs; viper stays in config",
	},
	{
		except: []string{"internal/cuda/...", "tensor/cuda", "allreduce/nccl"}, to: []string{"gorgonia.org/cu/..."}, tests: true, direct: true,
		why: "its init() calls cuInit and os.Exit(1): it stays behind the tag cuda",
	},
	{
		to: []string{"math/rand"}, tests: true, direct: true,
		why: "use package rng, or math/rand/v2 with an explicit source",
	},
	{
		to: []string{"log"}, tests: true, direct: true,
		why: "use log/slog",
	},
	{
		from: []string{"cluster"}, to: effects,
		why: "the machine is a pure function: no I/O, no clock, no goroutine",
	},
	{
		from: []string{"trainer", "checkpoint", "rundir", "data", "metrics", "config", "setup", "doctor", "optim", "agr", "diffusion/...", "nn", "autograd/...", "tensor/..."},
		to:   network,
		why:  "membership reaches the training loop through trainer.Session",
	},
	{
		from: []string{"trainer"}, to: []string{"config", "cluster/coordinator", "cluster/membership", "agent"},
		why: "the loop takes trainer.Config and ports; who decides about members is not its business",
	},
	{
		from: []string{"worker/..."}, to: []string{"agent"},
		why: "agent and worker are siblings: what they share is worker/spec",
	},
	{
		from: []string{"agent"}, to: []string{"worker", "trainer"},
		why: "an agent starts processes, whatever they compute",
	},
	{
		from: []string{"setup"}, to: []string{"trainer", "cluster/...", "checkpoint/...", "allreduce/mesh"},
		why: "the parts of a run are built without a run: sampling and benchmarks use them too",
	},
	{
		from: []string{"cluster/..."}, to: []string{"trainer", "tensor/...", "diffusion/...", "allreduce/...", "checkpoint/..."},
		why: "the control plane knows no tensors",
	},
	{
		from: []string{"diffusion"}, to: []string{"diffusion/unet", "tensor/...", "nn", "trainer"},
		why: "schedules and samplers know no model: they compute on host slices",
	},
	{
		from: []string{"agr", "optim"}, to: []string{"tensor/cpu", "tensor/cuda", "trainer", "allreduce/..."},
		why: "the pass after the all-reduce is arithmetic on vectors",
	},
	{
		from: []string{"checkpoint/...", "rundir", "data/..."}, to: []string{"trainer", "cluster/...", "config"},
		why: "files are read and written without a run",
	},
}
