package checkpoint

import (
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

func testPipeline(t *testing.T, raw bool) Pipeline {
	t.Helper()
	s := state(1)
	s.UNetConfig = []byte("{\n  \"_class_name\": \"UNet2DModel\",\n  \"_diffusers_version\": \"0.31.0\"\n}\n")
	p, err := s.Pipeline(raw)
	require.NoError(t, err)
	return p
}

func TestExportImport(t *testing.T) {
	for _, raw := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "out", "pipeline")
		want := testPipeline(t, raw)
		require.NoError(t, Export(dir, want))
		got, err := Import(dir)
		require.NoError(t, err)
		require.Equal(t, want.UNetConfig, got.UNetConfig)
		require.Equal(t, want.SchedulerConfig, got.SchedulerConfig)
		requireTensors(t, want.Tensors, got.Tensors)
		list := state(1).EMA
		if raw {
			list = state(1).Model
		}
		requireTensors(t, list, got.Tensors)
		require.Equal(t, []string{"pipeline"}, names(t, vfs.OS{}, filepath.Dir(dir)))

		index, err := os.ReadFile(filepath.Join(dir, "model_index.json"))
		require.NoError(t, err)
		text := `{
  "_class_name": "DDPMPipeline",
  "_diffusers_version": "0.31.0",
  "scheduler": [
    "diffusers",
    "DDPMScheduler"
  ],
  "unet": [
    "diffusers",
    "UNet2DModel"
  ]
}
`
		require.Equal(t, []byte(text), index, "to the byte, as diffusers writes it")
	}
	s := state(1)
	s.EMA = nil
	_, err := s.Pipeline(false)
	require.ErrorIs(t, err, ErrNoEMA)
	_, err = s.Pipeline(true)
	require.NoError(t, err)
}

func requireTensors(t *testing.T, want, got []Tensor) {
	t.Helper()
	require.NoError(t, CheckTensors(want, got))
	require.Equal(t, Digest(&Snapshot{Model: want}), Digest(&Snapshot{Model: got}))
}

func TestHalfPrecisionVariants(t *testing.T) {
	for variant, tolerance := range map[string]float64{"fp16": 1.0 / 2048, "bf16": 1.0 / 256} {
		dir := filepath.Join(t.TempDir(), "p")
		p := testPipeline(t, false)
		p.Variant = variant
		require.NoError(t, Export(dir, p))
		require.FileExists(t, filepath.Join(dir, "unet", "diffusion_pytorch_model."+variant+".safetensors"))
		got, err := Import(dir)
		require.NoError(t, err)
		require.Equal(t, variant, got.Variant)
		require.NoError(t, CheckTensors(p.Tensors, got.Tensors))
		want := sortedByName(p.Tensors)
		differ := false
		for i := range want {
			for j, v := range want[i].Data {
				require.InDelta(t, v, got.Tensors[i].Data[j], tolerance*math.Abs(float64(v))+0x1p-25)
				differ = differ || v != got.Tensors[i].Data[j]
			}
		}
		require.True(t, differ, "the file has half precision indeed")

		// The full one goes first if it is there too.
		other := filepath.Join(t.TempDir(), "q")
		require.NoError(t, Export(other, testPipeline(t, false)))
		name := filepath.Join("unet", "diffusion_pytorch_model.safetensors")
		require.NoError(t, os.Rename(filepath.Join(other, name), filepath.Join(dir, name)))
		got, err = Import(dir)
		require.NoError(t, err)
		requireTensors(t, p.Tensors, got.Tensors)
	}
}

func TestExportRefuses(t *testing.T) {
	for want, change := range map[string]func(*Pipeline){
		"no weights":                         func(p *Pipeline) { p.Tensors = nil },
		`variant "int4"`:                     func(p *Pipeline) { p.Variant = "int4" },
		`is of class "", not UNet2DModel`:    func(p *Pipeline) { p.UNetConfig = nil },
		`is of class "UNet2DCon`:             func(p *Pipeline) { p.UNetConfig = []byte(`{"_class_name":"UNet2DConditionModel"}`) },
		"it is not a JSON object":            func(p *Pipeline) { p.UNetConfig = []byte(`[]`) },
		`class "PNDMScheduler", not DDPMSch`: func(p *Pipeline) { p.SchedulerConfig = []byte(`{"_class_name":"PNDMScheduler"}`) },
		"elements for shape":                 func(p *Pipeline) { p.Tensors[0].Data = p.Tensors[0].Data[:1] },
	} {
		p := testPipeline(t, false)
		change(&p)
		root := t.TempDir()
		err := Export(filepath.Join(root, "p"), p)
		require.ErrorContains(t, err, want)
		oneLine(t, err)
		require.Empty(t, names(t, vfs.OS{}, root))
	}
	dir := t.TempDir()
	require.NoError(t, Export(dir, testPipeline(t, false)), "an empty directory is taken")
	err := Export(dir, testPipeline(t, true))
	require.ErrorContains(t, err, `the directory has "model_index.json" in it: choose another or empty it first`)
	got, err := Import(dir)
	require.NoError(t, err)
	requireTensors(t, state(1).EMA, got.Tensors)
}

// Whatever call fails, there is no half written pipeline.
func TestExportIsWholeOrNotAtAll(t *testing.T) {
	dir := filepath.Join("/out", "pipeline")
	list := calls(t, func(fsys vfs.FS) { require.NoError(t, export(fsys, dir, testPipeline(t, false))) })
	require.Greater(t, len(list), 30)
	for i := range list {
		mem := vfstest.NewMem()
		h := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
			if c.N == int64(i) {
				return &fs.PathError{Op: c.Op, Path: c.Path, Err: syscall.ENOSPC}
			}
			return nil
		}}
		err := export(h, dir, testPipeline(t, false))
		require.ErrorIs(t, err, syscall.ENOSPC)
		oneLine(t, err)
		require.ErrorContains(t, err, "free 1476 bytes on the volume of /out")
		there, err := mem.Exists(dir)
		require.NoError(t, err)
		require.Equal(t, list[i].Op == "syncdir" && i == len(list)-1, there, "call %d: %+v", i, list[i])
		if out, err := mem.ReadDir("/out"); err == nil && !there {
			require.Empty(t, out, "call %d: %+v", i, list[i])
		}
		require.NoError(t, mem.RemoveAll(dir))
		require.NoError(t, export(mem, dir, testPipeline(t, false)))
		require.Equal(t, []string{"pipeline"}, names(t, mem, "/out"))
	}
}

func exported(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "p")
	require.NoError(t, Export(dir, testPipeline(t, false)))
	return dir
}

func TestImportRefuses(t *testing.T) {
	weights := filepath.Join("unet", "diffusion_pytorch_model.safetensors")
	put := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	move := func(to string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Rename(filepath.Join(dir, weights), filepath.Join(dir, to)))
		}
	}
	for want, change := range map[string]func(*testing.T, string){
		`unet/diffusion_pytorch_model.bin: checkpoint: unsupported diffusers pipeline: not a file of torch.save`: move("unet/diffusion_pytorch_model.bin"),
		`unet/diffusion_pytorch_model.fp16.bin: `: move("unet/diffusion_pytorch_model.fp16.bin"),
		`unet/diffusion_pytorch_model.bin: checkpoint: unsupported diffusers pipeline: a dictionary of tensors does not contain this: the name "posix.system"`: func(t *testing.T, dir string) {
			t.Helper()
			evil, err := os.ReadFile("pth/testdata/evil.pth")
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(dir, weights)))
			put("unet/diffusion_pytorch_model.bin", string(evil))(t, dir)
		},
		"the weights are cut into shards":                      move("unet/diffusion_pytorch_model.safetensors.index.json"),
		"there is no unet/diffusion_pytorch_model.safetensors": move("x"),
		"there is no unet/config.json or config.json": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "unet", "config.json")))
		},
		"unet/config.json is of class \"UNet2DConditionModel\"":            put("unet/config.json", `{"_class_name":"UNet2DConditionModel"}`),
		"it is not a JSON object":                                          put("unet/config.json", "null"),
		"a StableDiffusionPipeline whose unet is [diffusers UNet2DCondit":  put(indexFile, `{"_class_name":"StableDiffusionPipeline","unet":["diffusers","UNet2DConditionModel"]}`),
		"model_index.json: unexpected end":                                 put(indexFile, `{`),
		"unet/diffusion_pytorch_model.safetensors: safetensors: at byte 0": put(weights, "PK\x03\x04 a zip, renamed"),
		"it is a pointer of Git LFS, not the weights: run git lfs":         put(weights, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
		`element 1 of key "n" is NaN: the weights are damaged`: func(t *testing.T, dir string) {
			t.Helper()
			f, err := os.Create(filepath.Join(dir, weights))
			require.NoError(t, err)
			nan := float32(math.NaN())
			require.NoError(t, safetensors.Write(f, []safetensors.Tensor{{Name: "n", DType: safetensors.F32, Shape: []int{2}, Data: safetensors.Float32s{1, nan}}}, nil))
			require.NoError(t, f.Close())
		},
		`key "n" is I64: quantised weights are not supported`: func(t *testing.T, dir string) {
			t.Helper()
			f, err := os.Create(filepath.Join(dir, weights))
			require.NoError(t, err)
			require.NoError(t, safetensors.Write(f, []safetensors.Tensor{{Name: "n", DType: safetensors.I64, Data: safetensors.Int64s{1}}}, nil))
			require.NoError(t, f.Close())
		},
		"unet/config.json is not a regular file": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "unet", "config.json")))
			require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "unet", "config.json"), 0o600))
		},
	} {
		dir := exported(t)
		change(t, dir)
		_, err := Import(dir)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, dir)
		oneLine(t, err)
	}
	_, err := Import(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A link leads nowhere outside the directory, for the weights or a document,
// and whether it is a file or a whole folder.
func TestImportFollowsNoLinkOut(t *testing.T) {
	outside := exported(t)
	for _, name := range []string{"unet", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler", "scheduler/scheduler_config.json", indexFile} {
		for _, absolute := range []bool{true, false} {
			dir := exported(t)
			path := filepath.Join(dir, name)
			require.NoError(t, os.RemoveAll(path))
			target := filepath.Join(outside, name)
			if !absolute {
				var err error
				target, err = filepath.Rel(filepath.Dir(path), target)
				require.NoError(t, err)
			}
			require.NoError(t, os.Symlink(target, path))
			require.FileExists(t, filepath.Join(dir, "unet", "config.json"), "the link itself works")
			_, err := Import(dir)
			require.ErrorContains(t, err, "path escapes from parent", "%s -> %s", name, target)
		}
	}
	// Inside it may be followed.
	dir := exported(t)
	require.NoError(t, os.Rename(filepath.Join(dir, "unet"), filepath.Join(dir, "real")))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "unet")))
	_, err := Import(dir)
	require.NoError(t, err)
}

// The cache of huggingface_hub keeps files as blobs and directories of links.
func TestImportFromHuggingFaceCache(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "models--google--ddpm-cifar10-32")
	rev := filepath.Join(repo, "snapshots", "267b167dc01f0e4e61923ea244e8b988f84deb80")
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "blobs"), 0o700))
	require.NoError(t, os.MkdirAll(rev, 0o700))
	from := exported(t)
	// The oldest published pipelines have everything at the top.
	for name, blob := range map[string]string{
		"model_index.json": "aa", "scheduler/scheduler_config.json": "bb", "unet/config.json": "cc", "unet/diffusion_pytorch_model.safetensors": "dd",
	} {
		require.NoError(t, os.Rename(filepath.Join(from, name), filepath.Join(repo, "blobs", blob)))
		require.NoError(t, os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(rev, filepath.Base(name))))
	}
	p, err := Import(rev)
	require.NoError(t, err)
	requireTensors(t, state(1).EMA, p.Tensors)
	require.NotNil(t, p.SchedulerConfig)

	// A link out of the repository is still none to follow.
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("{}"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(rev, "config.json")))
	require.NoError(t, os.Symlink(secret, filepath.Join(rev, "config.json")))
	_, err = Import(rev)
	require.ErrorContains(t, err, "path escapes from parent")

	// A bare UNet has no scheduler.
	bare := filepath.Join(exported(t), "unet")
	p, err = Import(bare)
	require.NoError(t, err)
	require.Nil(t, p.SchedulerConfig)
}

// A file that announces more than it has costs no memory.
func TestImportBelievesNoLength(t *testing.T) {
	dir := exported(t)
	b := binary.LittleEndian.AppendUint64(nil, safetensors.MaxHeader)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "unet", "diffusion_pytorch_model.safetensors"), append(b, '{'), 0o600))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Import(dir)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, safetensors.ErrInvalid)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}
