package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/config"
)

// nodeName is unique among the nodes of a run: the host's name, and the process
// where a run has several nodes on one host.
func nodeName(c *config.Config) string {
	if c.Cluster.Node != "" {
		return c.Cluster.Node
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host, _, _ = strings.Cut(host, ".")
	if c.Cluster.Nodes == "1" {
		return host
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// dropSelf takes this node out of the seeds: every pod of a job can be given the
// same list, and the node that is itself the seed starts the run.
func dropSelf(seeds []string, names ...string) []string {
	var others []string
	for _, seed := range seeds {
		host, _, err := net.SplitHostPort(seed)
		if err != nil {
			host = seed
		}
		self := false
		for _, name := range names {
			self = self || name != "" && (host == name || strings.HasPrefix(host, name+"."))
		}
		if !self {
			others = append(others, seed)
		}
	}
	return others
}

// secretOf reads the run's shared secret; nil: none.
func secretOf(c *config.Config) ([]byte, error) {
	var secret []byte
	var err error
	source := "cluster.secret"
	switch {
	case c.Cluster.SecretFile != "":
		source = "cluster.secret_file"
		secret, err = security.LoadSecretFile(c.Cluster.SecretFile)
	case c.Cluster.Secret != "":
		secret, err = security.ParseSecret(c.Cluster.Secret)
	}
	if err != nil {
		return nil, &config.Error{Source: source, Err: err}
	}
	return secret, nil
}

// console is a slog handler for people: "agrdist: message key=value". Details
// are in the log files.
type console struct {
	out   io.Writer
	level slog.Level
	attrs string
}

func newConsole(out io.Writer, level string) *console {
	c := &console{out: out}
	if level == "info" {
		level = "warn" // the bar shows what goes well
	}
	if err := c.level.UnmarshalText([]byte(level)); err != nil {
		c.level = slog.LevelWarn
	}
	return c
}

func (c *console) Enabled(_ context.Context, l slog.Level) bool { return l >= c.level }

func (c *console) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("agrdist: " + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	b.WriteString(c.attrs + "\n")
	_, err := io.WriteString(c.out, b.String())
	return err
}

func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	d := *c
	for _, a := range attrs {
		d.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &d
}

func (c *console) WithGroup(string) slog.Handler { return c }
