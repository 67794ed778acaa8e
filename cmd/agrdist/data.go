package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/grid"
	"github.com/agrdist/agrdist/internal/text"
	"github.com/agrdist/agrdist/setup"
)

func dataCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "data", Short: "Look at training images, or get a known data set",
		Long: `Look at training images, or get a known data set. See docs/data.md.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(dataInfoCommand(), dataGetCommand())
	return c
}

// inspection are the options of agrdist data info.
type inspection struct {
	sheet string
	size  int
	count int
	full  bool
	list  bool
}

func dataInfoCommand() *cobra.Command {
	var o inspection
	c := &cobra.Command{
		Use: "info DIR", Short: "Say what a directory of images (or digits) holds, and draw a contact sheet", Args: cobra.ExactArgs(1),
		Long: `Say what a directory holds: an image folder, CIFAR-10 or record files; "digits" is
the embedded data set. Printed are counts, formats, sizes, colour modes, classes
(the directories below DIR), mean and standard deviation, every file that is not
used and why, and the recipe that agrdist run --data DIR would train. A contact
sheet of images, cropped and scaled as training sees them, is written as a PNG.

Exit code 1: some images cannot be used (a run refuses them, or leaves them out
with data.corrupt=skip).`,
		Example: `  agrdist data info photos
  agrdist data info photos --full --sheet sheet.png --size 64`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), args[0])
		},
	}
	f := c.Flags()
	f.StringVar(&o.sheet, "sheet", "", `contact sheet to write, NAME.png; default NAME-sheet.png after DIR, "none" for none`)
	f.IntVar(&o.size, "size", 0, "height and width that images are scaled to; default: what a run would train on")
	f.IntVar(&o.count, "count", 64, "images on the contact sheet")
	f.BoolVar(&o.full, "full", false, "decode every image, however many there are")
	f.BoolVar(&o.list, "list", false, "list every file that is not used, not only the first ten")
	return c
}

func (o *inspection) run(ctx context.Context, out, progress io.Writer, path string) error {
	if o.size < 0 || o.count < 1 {
		return &usageError{fmt.Errorf("--size %d and --count %d must be positive", o.size, o.count)}
	}
	if o.sheet != "" && o.sheet != "none" && !strings.EqualFold(filepath.Ext(o.sheet), ".png") {
		return &usageError{fmt.Errorf("--sheet %s: the contact sheet is a PNG; give it a name that ends in .png", text.Valid(o.sheet))}
	}
	info, err := describe(ctx, path, o.full, true, progress)
	if err != nil {
		return err
	}
	printInfo(out, info)
	proposal, err := data.Propose(info)
	if err == nil {
		err = o.pixels(ctx, out, info, proposal)
	}
	if err != nil {
		return err
	}
	o.printSkipped(out, info)
	fmt.Fprintln(out, "recipe (agrdist run --data "+shellWord(path)+"):")
	printProposal(out, proposal)
	if info.Index != nil {
		if n := len(info.Index.Faults()); n > 0 {
			return &exitError{exitFailed, fmt.Sprintf("%s of %d cannot be used", plural(n, "image"), n+info.Images)}
		}
	}
	return nil
}

// describe scans what a path holds. lenient: images that cannot be used are
// listed, not refused.
func describe(ctx context.Context, path string, full, lenient bool, progress io.Writer) (*data.Info, error) {
	c, err := data.Detect(path)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	var index *data.Index
	if c.Name == data.Folder {
		scan := data.ScanConfig{Dir: c.Dir, CachePath: data.DefaultCachePath(c.Dir)}
		if lenient {
			// What decoding finds is wanted too, but not at the price of a large folder.
			scan.Corrupt, scan.Verify = data.CorruptSkip, data.VerifyAuto
		}
		if full {
			scan.Verify = data.VerifyFull
		}
		bar := newCounter(progress, "data:")
		scan.Progress = bar.phase
		index, err = data.Scan(ctx, scan)
		bar.close()
		if err != nil {
			return nil, &config.Error{Source: "data", Err: err}
		}
	}
	info, err := data.Describe(c, index)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	return info, nil
}

// printInfo prints what headers and labels say.
func printInfo(out io.Writer, info *data.Info) {
	row := func(what, format string, args ...any) {
		fmt.Fprintf(out, "  %-10s %s\n", what, fmt.Sprintf(format, args...))
	}
	name := info.Config.Name
	if info.Config.Dir != "" {
		name += " " + text.Valid(info.Config.Dir)
	}
	fmt.Fprintf(out, "%s: %s\n", name, plural(info.Images, "image"))
	if len(info.Formats) > 0 {
		row("formats", "%s", counts(info.Formats, 10))
	}
	row("sizes", "%s", counts(info.Sizes, 6))
	row("modes", "%s", counts(info.Modes, 10))
	if info.Turned > 0 {
		row("turned", "%d, by their EXIF orientation", info.Turned)
	}
	if info.Moving > 0 {
		row("animated", "%d, of which the first frame is used", info.Moving)
	}
	if len(info.Classes) > 0 {
		row("classes", "%d: %s", len(info.Classes), counts(info.Classes, 12))
	} else {
		row("classes", "none (the directories below DIR are classes where every image is in one)")
	}
}

// counts lists the first of some counts.
func counts(list []data.Count, limit int) string {
	var out []string
	for i, c := range list {
		if i == limit {
			rest := 0
			for _, c := range list[i:] {
				rest += c.N
			}
			out = append(out, fmt.Sprintf("%d others %d", len(list)-i, rest))
			break
		}
		out = append(out, fmt.Sprintf("%s %d", text.Valid(c.What), c.N))
	}
	return strings.Join(out, ", ")
}

// measured is how many images mean and deviation are taken over.
const measured = 2000

// pixels prints the moments and writes the contact sheet.
func (o *inspection) pixels(ctx context.Context, out io.Writer, info *data.Info, p data.Proposal) error {
	c := info.Config
	c.Index, c.CacheBytes = info.Index, 0
	if c.Name == data.Folder {
		c.Channels = map[bool]int{true: 3, false: 1}[info.Colour]
		if c.Size = o.size; c.Size == 0 {
			c.Size = proposedSize(p)
		}
	}
	set, err := data.Open(c)
	if err != nil {
		return &config.Error{Source: "data", Err: err}
	}
	defer func() { _ = data.Close(set) }() // only read
	moments, err := data.Measure(ctx, set, measured)
	if err != nil {
		return err
	}
	var mean, deviation []string
	for _, m := range moments {
		mean, deviation = append(mean, fmt.Sprintf("%.3f", m.Mean)), append(deviation, fmt.Sprintf("%.3f", m.Deviation))
	}
	height, width, channels := set.Size()
	fmt.Fprintf(out, "  %-10s mean %s, standard deviation %s, in [-1, 1] at %dx%d\n", "pixels", strings.Join(mean, " "), strings.Join(deviation, " "), width, height)
	if o.sheet == "none" {
		return nil
	}
	if o.sheet == "" {
		o.sheet = data.FileName(c) + "-sheet.png"
	}
	n := min(o.count, set.Len())
	each := height * width * channels
	images := make([]float32, n*each)
	for i := range n {
		if err := set.Read(images[i*each:(i+1)*each], i*set.Len()/n); err != nil {
			return err
		}
	}
	if err := grid.WriteFile(o.sheet, images, n, height, width, channels, grid.Options{}); err != nil {
		return fmt.Errorf("--sheet: %w", err)
	}
	fmt.Fprintf(out, "  %-10s %s, %d images spread over all\n", "sheet", text.Valid(o.sheet), n)
	return nil
}

func proposedSize(p data.Proposal) (size int) {
	for _, s := range p.Settings {
		if s.Key == "model.sample_size" {
			_, _ = fmt.Sscan(s.Value, &size) // Propose wrote it
		}
	}
	return size
}

func (o *inspection) printSkipped(out io.Writer, info *data.Info) {
	if info.Index == nil || len(info.Index.Skipped) == 0 {
		return
	}
	list := info.Index.Skipped
	fmt.Fprintf(out, "  %-10s %d: %s\n", "not used", len(list), info.Index.Summary())
	for i, s := range list {
		if i == 10 && !o.list {
			fmt.Fprintf(out, "    ... and %d more (--list shows all)\n", len(list)-i)
			break
		}
		fmt.Fprintf(out, "    %s\n", s)
	}
}

// printProposal prints a recipe, a setting or a note a line.
func printProposal(out io.Writer, p data.Proposal) {
	for _, s := range p.Settings {
		fmt.Fprintf(out, "  %-25s %s\n", s.Key, s.Value)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(out, "  note: %s\n", n)
	}
}

// shellWord quotes a word for a shell where it needs to be.
func shellWord(s string) string {
	return strings.TrimPrefix(resumeHint([]string{"x", s}), "x ")
}

// propose scans the directory of run --data and returns its recipe: the defaults
// that a file, the environment and --set change.
func propose(ctx context.Context, path string, stderr io.Writer) (*config.Config, error) {
	if path != data.Digits {
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute // the run may be resumed from another directory
		}
	}
	info, err := describe(ctx, path, false, true, stderr) // the run itself refuses what cannot be used
	if err != nil {
		return nil, err
	}
	p, err := data.Propose(info)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	fmt.Fprintf(stderr, "agrdist: %s, %s; the recipe is, where nothing else is set:\n", plural(info.Images, "image"), counts(info.Sizes, 3))
	printProposal(stderr, p)
	var sets []string
	for _, s := range p.Settings {
		sets = append(sets, s.Key+"="+s.Value)
	}
	base, err := config.Load(config.Source{Set: sets, Environ: []string{}})
	if err != nil {
		return nil, err
	}
	base.Data.Dir = info.Config.Dir // YAML has no form for bytes that are not text
	if n := setup.GPUs(base.Device); n > 0 {
		base.Cluster.Workers = n
	}
	return base, nil
}
