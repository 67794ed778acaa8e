package data

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Setting is a configuration key and its value, as YAML writes it.
type Setting struct{ Key, Value string }

// Proposal is a recipe for a data set.
type Proposal struct {
	Settings []Setting
	Notes    []string // what a person should know of it, one line each
}

const (
	proposedSide   = 32 // largest image that a CPU trains on in reasonable time
	proposedBatch  = 32
	proposedEpochs = 60
)

// Propose makes a first recipe from what was found: image size and channels are
// those of the images, up to 32x32; the network and the length of the run follow.
// It is a function of the description alone.
func Propose(info *Info) (Proposal, error) {
	var p Proposal
	set := func(key, format string, args ...any) {
		p.Settings = append(p.Settings, Setting{key, fmt.Sprintf(format, args...)})
	}
	side, levels := proposedSize(info.Short)
	if side < 4 {
		return p, fmt.Errorf("%s: the images are %d pixels across; a model needs at least 4: set model.sample_size to enlarge them", quoted(info.Config.Dir), info.Short)
	}
	set("data.name", "%s", info.Config.Name)
	if info.Config.Dir != "" {
		set("data.dir", "%q", info.Config.Dir)
		set("out", "%q", filepath.Join("runs", FileName(info.Config)))
	}
	set("model.sample_size", "%d", side)
	channels := info.Channels
	switch {
	case channels > 0:
		side, levels = info.Short, 1
		for levels < 3 && side%(2<<(levels-1)) == 0 && side>>levels >= 4 {
			levels++
		}
	case info.Colour:
		channels = 3
	default:
		channels = 1
	}
	set("model.in_channels", "%d", channels)
	if info.Config.Name == Digits {
		return p, nil // the defaults are its recipe
	}
	set("model.block_out_channels", "%s", []string{"[32]", "[32, 64]", "[32, 64, 64]"}[levels-1])
	set("model.attention_levels", "[%d]", min(1, levels-1))
	set("model.norm_num_groups", "8")
	steps := min(max(info.Images*proposedEpochs/proposedBatch, 2000), 20_000) / 100 * 100
	set("train.global_batch", "%d", proposedBatch)
	set("train.steps", "%d", steps)
	set("train.ema_decay", "0.999")
	set("lr.base", "0.001")
	set("checkpoint.every", "%d", steps/10)
	set("sample.every", "%d", steps/10)
	p.notes(info, side, channels, steps)
	return p, nil
}

// proposedSize is the image size for images whose shorter side is short, and the
// number of levels that divide it.
func proposedSize(short int) (side, levels int) {
	side = min(short, proposedSide)
	switch {
	case side >= 16:
		return side / 4 * 4, 3
	case side >= 8:
		return side / 2 * 2, 2
	}
	return side, 1
}

func (p *Proposal) notes(info *Info, side, channels, steps int) {
	note := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	if info.Short > side || !info.Square {
		note("images are cropped to their middle square and scaled to %dx%d", side, side)
	}
	if info.Short >= 2*side {
		note("model.sample_size=%d shows more and takes about 4 times as long", 2*side)
	}
	if gray := info.count("gray") + info.count("gray16"); channels == 3 && gray > 0 {
		note("%s trained on as RGB", images(gray, "gray image"))
	}
	if info.Turned > 0 {
		note("%s turned upright as their EXIF orientation says", images(info.Turned, "image"))
	}
	if info.Moving > 0 {
		note("of each animation (%d) the first frame is used", info.Moving)
	}
	if info.Images < 500 {
		note("%s few: the model will learn them by heart", images(info.Images, "image"))
	}
	if epochs := steps * proposedBatch / max(info.Images, 1); epochs < proposedEpochs {
		note("%d steps see every image %d times; more steps give better images (train.steps)", steps, epochs)
	}
	note("data.flip=true doubles what mirrored images are good for (photographs, not text)")
}

// count is the number of images with a mode.
func (info *Info) count(mode string) (n int) {
	for _, c := range info.Modes {
		if c.What == mode {
			n += c.N
		}
	}
	return n
}

// FileName is a name for files about a data set, after its directory: letters,
// digits, dot, dash and underscore.
func FileName(c Config) string {
	if c.Dir == "" {
		return c.Name
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return r
		}
		return '-'
	}, filepath.Base(c.Dir))
	if strings.Trim(name, "-.") == "" {
		return c.Name
	}
	return name
}

// images is so many of them with the verb, as "1 image is" or "2 images are".
func images(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}
