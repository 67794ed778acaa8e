package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/status"
)

const runsDir = "runs" // where runs lie that were not given --out

func statusCommand() *cobra.Command {
	var (
		watch, asJSON bool
		token         string
		s             settings
	)
	c := &cobra.Command{
		Use: "status [RUN|HOST:PORT]", Short: "Show what a run does, and whether it is healthy",
		Long: "Show what a run does: step, speed, workers and their phases, restarts, the last\n" +
			"checkpoint, and what it waits for. RUN is a run's directory (default: the newest\n" +
			"under " + runsDir + "/) and needs no network; HOST:PORT is the page of any node of a run.\n\n" + remoteHelp + "\n\n" +
			"Exit code: 0 healthy, 3 waiting, 4 stuck, 5 over, 1 no answer.",
		Example: "  agrdist status\n  agrdist status runs/digits --watch\n  agrdist status 10.0.0.1:8081 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			look, err := statusSource(args, token, &s)
			if err != nil {
				return err
			}
			return showStatus(c.Context(), c.OutOrStdout(), look, watch, asJSON)
		},
	}
	s.flags(c)
	c.Flags().BoolVarP(&watch, "watch", "w", false, "repeat every second until Ctrl-C or the end of the run")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object (with --watch, one a second)")
	c.Flags().StringVar(&token, "token", os.Getenv("AGRDIST_DASHBOARD_TOKEN"), "token of the page, for HOST:PORT")
	return c
}

// statusSource decides whom to ask.
func statusSource(args []string, token string, s *settings) (func(ctx context.Context) (status.View, error), error) {
	where := ""
	if len(args) > 0 {
		where = args[0]
	} else {
		dirs, err := status.Find(runsDir)
		if err != nil || len(dirs) == 0 {
			return nil, &usageError{fmt.Errorf("there is no run under %s/; give the run's directory: agrdist status RUN", runsDir)}
		}
		where = dirs[0]
	}
	if _, err := os.Stat(where); err != nil {
		client, err := remotePage(where, token, s)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (status.View, error) { return client.View(ctx, "") }, nil
	}
	if _, err := os.Stat(filepath.Join(where, "events.jsonl")); err != nil && len(status.Endpoints(where)) == 0 {
		return nil, fmt.Errorf("%s is no run's directory: it has no events.jsonl", where)
	}
	run := status.NewRun(filepath.Base(filepath.Clean(where)), where)
	return func(ctx context.Context) (status.View, error) {
		for _, e := range status.Endpoints(where) {
			if v, err := (status.Client{URL: e.URL, Token: e.Token, TLS: e.TLS()}).View(ctx, e.Run); err == nil {
				return v, nil
			}
		}
		return run.View(ctx) // nobody answers: the files tell what they know
	}, nil
}

func showStatus(ctx context.Context, out io.Writer, look func(ctx context.Context) (status.View, error), watch, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	for {
		v, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case asJSON:
			err = json.NewEncoder(out).Encode(v)
		case watch && isTerminal(out):
			_, err = fmt.Fprint(out, "\x1b[H\x1b[2J"+v.Text())
		default:
			_, err = fmt.Fprint(out, v.Text())
		}
		if err != nil {
			return err
		}
		if !watch || v.Health == status.Over {
			return &exitError{code: v.Health.ExitCode()}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func runsCommand() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "runs [DIR]", Short: "List the runs of a directory with state, step, loss and digest",
		Example: "  agrdist runs\n  agrdist runs /data/experiments --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := runsDir
			if len(args) > 0 {
				dir = args[0]
			}
			views, err := listRuns(c.Context(), dir)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(views)
			}
			return printRuns(c.OutOrStdout(), views)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}

func listRuns(ctx context.Context, dir string) (views []status.View, err error) {
	lib := status.NewLibrary(dir, nil)
	defer func() { err = errors.Join(err, lib.Close()) }()
	all, err := lib.Runs()
	if err != nil {
		return nil, err
	}
	views = []status.View{}
	for _, r := range all {
		v, err := r.View(ctx)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

func printRuns(out io.Writer, views []status.View) error {
	if len(views) == 0 {
		_, err := fmt.Fprintln(out, "no runs")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTATE\tSTEP\tLOSS\tLAST EVENT\tDIGEST")
	for _, v := range views {
		state := v.State
		if v.Health == status.Stuck {
			state = "stuck"
		}
		loss := ""
		if v.Loss != 0 {
			loss = fmt.Sprintf("%.4f", v.Loss)
		}
		fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s ago\t%.12s\n", v.Run, state, max(v.Step, 0), v.TotalSteps, loss,
			(time.Duration(v.Age) * time.Second).String(), v.Digest)
	}
	return w.Flush()
}

func dashboardCommand() *cobra.Command {
	bind := "127.0.0.1:0"
	c := &cobra.Command{
		Use: "dashboard [DIR]", Short: "Serve a page of all runs of a directory, to look at and compare",
		Long: "Serve a page of all runs under DIR (default " + runsDir + "/), finished ones and running\n" +
			"ones, with overlaid curves and the settings that differ. It only reads. Each\n" +
			"running agent serves a page of its own run; this one is for several.",
		Example: "  agrdist dashboard\n  agrdist dashboard /data/experiments --bind 127.0.0.1:8080",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := runsDir
			if len(args) > 0 {
				dir = args[0]
			}
			return serveDashboard(c.Context(), c.OutOrStdout(), dir, bind)
		},
	}
	c.Flags().StringVar(&bind, "bind", bind, "loopback address to serve at; port 0 takes a free one")
	c.AddCommand(dashboardTokenCommand())
	return c
}

// dashboardTokenCommand is for what looks at a run from elsewhere, as Prometheus does.
func dashboardTokenCommand() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use: "token", Short: "Print the token of a run's page beyond loopback, which follows from secret and run id",
		Example: "  AGRDIST_CLUSTER_SECRET=... agrdist dashboard token --set cluster.run_id=digits",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			token, err := launch.PageToken(cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), token)
			return err
		},
	}
	s.flags(c)
	return c
}

func serveDashboard(ctx context.Context, out io.Writer, dir, bind string) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := status.Find(dir); err != nil {
		return err
	}
	lib := status.NewLibrary(dir, launch.Differs)
	defer func() { err = errors.Join(err, lib.Close()) }()
	token, err := newToken()
	if err != nil {
		return err
	}
	s, err := status.Listen(status.Config{Bind: bind, Token: token, Runs: lib.Runs})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "dashboard %s\n", s.URL()); err != nil {
		return err
	}
	return s.Serve(ctx)
}

// newToken is 128 random bits.
func newToken() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
