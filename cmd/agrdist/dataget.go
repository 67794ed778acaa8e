package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/data/fetch"
	"github.com/agrdist/agrdist/eval/inception"
	"github.com/agrdist/agrdist/internal/text"
)

func dataGetCommand() *cobra.Command {
	var o fetch.Options
	c := &cobra.Command{
		Use: "get cifar10|emoji32|inception", Short: "Download a known data set, check it and unpack it", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"cifar10", "emoji32", "inception"},
		Long: `Download a known data set, or the weights of the FID Inception, compare its SHA-256
and unpack it. A download that was cut off resumes when the command is run again. Where
this machine cannot download, get the archive elsewhere and give it with --from.

  cifar10   60,000 photographs, 32x32 RGB, 10 classes; 162 MiB from www.cs.toronto.edu.
            --from takes the binary or the Python version's tar.gz.
  emoji32   1,906 emoji, 32x32 RGB, 9 classes, made of the npm package
            emoji-datasource-google 16.0.0 (71 MiB from registry.npmjs.org; Noto Emoji
            by Google, Apache License 2.0). --from takes the .tgz or the unpacked package.
  inception the weights that FID and the Inception Score are defined by, as
            inception.safetensors for agrdist eval --inception; 91 MiB from github.com.
            --from takes pt_inception-2015-12-05-6726825d.pth.`,
		Example: `  agrdist data get cifar10
  agrdist data get cifar10 --from Downloads/cifar-10-python.tar.gz --out /data/cifar10
  agrdist data get emoji32 --mirror https://npm.example.org/emoji-datasource-google/-/`,
		RunE: func(c *cobra.Command, args []string) error { return getData(c, args[0], o) },
	}
	f := c.Flags()
	f.StringVarP(&o.Out, "out", "o", "", "directory to make (default datasets/NAME)")
	f.StringVar(&o.From, "from", "", "archive that is here already, instead of a download")
	f.StringVar(&o.Mirror, "mirror", "", "URL of the archive, or of the directory it lies in, instead of the usual one")
	return c
}

func getData(c *cobra.Command, name string, o fetch.Options) error {
	get := map[string]struct {
		run      func() error
		dataName string
	}{
		"cifar10":   {func() error { return fetch.CIFAR10(c.Context(), o) }, data.CIFAR10},
		"emoji32":   {func() error { return fetch.Emoji32(c.Context(), o) }, data.Records},
		"inception": {func() error { return getInception(c.Context(), o) }, ""},
	}
	set, ok := get[name]
	switch {
	case !ok:
		return &usageError{fmt.Errorf("no data set %q; choose cifar10, emoji32 or inception", name)}
	case o.From != "" && o.Mirror != "":
		return &usageError{errors.New("--from and --mirror are both given; choose one")}
	case o.Mirror != "" && !strings.HasPrefix(o.Mirror, "http://") && !strings.HasPrefix(o.Mirror, "https://"):
		return &usageError{fmt.Errorf("--mirror %s: write a URL that begins with https:// or http:// (--from takes a file)", text.Valid(o.Mirror))}
	}
	if o.Out == "" {
		o.Out = filepath.Join("datasets", name)
	}
	stderr := c.ErrOrStderr()
	bar := newCounter(stderr, "downloading")
	o.Note = func(text string) { complain(stderr, text, exitOK) }
	o.Download.Progress = func(got, total int64) { bar.set(int(got>>20), int(total>>20)) }
	o.Download.Retrying = func(err error, wait time.Duration) {
		bar.close()
		complain(stderr, fmt.Sprintf("%v; trying again in %s", err, wait), exitOK)
	}
	err := set.run()
	bar.close()
	if err != nil {
		if o.From == "" {
			return fmt.Errorf("%w\nwithout a network: get the archive elsewhere and run: agrdist data get %s --from FILE", err, name)
		}
		return err
	}
	if set.dataName == "" {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: the FID Inception's weights\n  evaluate  agrdist eval --from RUN --inception %s\n",
			text.Valid(inceptionFile(o)), shellWord(inceptionFile(o)))
		return err
	}
	opened, err := data.Open(data.Config{Name: set.dataName, Dir: o.Out})
	if err != nil {
		return &config.Error{Source: "data", Err: err}
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %d images of 32x32 to train on, %d classes\n  train     agrdist run --data %s\n  look      agrdist data info %[4]s\n",
		text.Valid(o.Out), opened.Len(), len(data.ClassesOf(opened)), shellWord(o.Out))
	return data.Close(opened)
}

func inceptionFile(o fetch.Options) string { return filepath.Join(o.Out, "inception.safetensors") }

// getInception gets the weights as a file of safetensors, a format that cannot make the
// program that reads it do anything.
func getInception(ctx context.Context, o fetch.Options) error {
	if _, err := inception.Open(inceptionFile(o)); err == nil {
		return nil // it is there
	}
	file, err := fetch.File(ctx, o, inception.URL, inception.Published, inception.Bytes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	if err := inception.Convert(file, inceptionFile(o)); err != nil {
		return err
	}
	if o.From == "" {
		return os.Remove(file)
	}
	return nil
}
