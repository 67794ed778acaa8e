package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/status"
)

func stopCommand() *cobra.Command {
	token, wait := "", 2*time.Minute
	var s settings
	c := &cobra.Command{
		Use: "stop RUN|HOST:PORT", Short: "Save a run on all its nodes and end it",
		Long: "Ask a run to save a checkpoint and end, on all its nodes, and wait until it has.\n" +
			"RUN is the directory of any of its nodes on this machine, HOST:PORT the page of any\n" +
			"node (agrdist run prints it).\n\n" + remoteHelp + "\n\n" +
			"Exit code: 0 it has ended, 1 it did not answer or not end in time.",
		Example: "  agrdist stop runs/digits\n  AGRDIST_CLUSTER_SECRET=... agrdist stop 10.0.0.1:8081 --set cluster.run_id=digits",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			pages, err := pagesOf(args[0], token, &s)
			if err != nil {
				return err
			}
			return stopRun(c.Context(), args[0], pages, wait, func(text string) { fmt.Fprintln(c.OutOrStdout(), text) })
		},
	}
	s.flags(c)
	c.Flags().StringVar(&token, "token", os.Getenv("AGRDIST_DASHBOARD_TOKEN"), "token of the page, for HOST:PORT")
	c.Flags().DurationVar(&wait, "wait", wait, "how long to wait for the end; 0: do not wait")
	return c
}

// pageOf is where a run can be asked.
type pageOf struct {
	status.Client
	run string
}

// pagesOf finds the pages of a run.
func pagesOf(where, token string, s *settings) ([]pageOf, error) {
	if _, err := os.Stat(where); err != nil {
		client, err := remotePage(where, token, s)
		if err != nil {
			return nil, err
		}
		return []pageOf{{client, ""}}, nil
	}
	var pages []pageOf
	for _, e := range status.Endpoints(where) {
		pages = append(pages, pageOf{status.Client{URL: e.URL, Token: e.Token, TLS: e.TLS()}, e.Run})
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("no node of a run in %s serves a page on this machine: it does not run here, or dashboard.bind is off; "+
			"stop it with SIGINT to any of its agents", where)
	}
	return pages, nil
}

const remoteHelp = "A page beyond loopback answers https. Its key and its token follow from the secret and\n" +
	"the name of the run: give AGRDIST_CLUSTER_SECRET or cluster.secret_file, and\n" +
	"cluster.run_id, as the nodes have them (-c or --set)."

// remotePage is a page that is given by its address.
func remotePage(where, token string, s *settings) (status.Client, error) {
	cfg, err := s.load()
	if err != nil {
		return status.Client{}, err
	}
	client, err := launch.PageClient(cfg, where, token)
	if err != nil {
		return client, &usageError{err}
	}
	return client, nil
}

// stopRun asks one node after the other until one takes the request, and then waits
// until no node answers any more, or says that the run is over.
func stopRun(ctx context.Context, name string, pages []pageOf, wait time.Duration, say func(string)) error {
	var errs []error
	asked := false
	for _, p := range pages {
		v, err := p.View(ctx, p.run)
		if err == nil {
			err = p.Stop(ctx, v.Run)
		}
		if asked = err == nil; asked {
			break
		}
		errs = append(errs, err)
	}
	if !asked {
		return fmt.Errorf("%s was not asked to stop: %w", name, errors.Join(errs...))
	}
	say(name + " was asked to save and stop")
	for by := time.Now().Add(wait); time.Now().Before(by); {
		if allEnded(ctx, pages) {
			say(name + " has ended")
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	if wait == 0 {
		return nil
	}
	return fmt.Errorf("%s has not ended within %s; agrdist status %[1]s says what it does", name, wait)
}

// allEnded tells whether no node of a run says that it continues.
func allEnded(ctx context.Context, pages []pageOf) bool {
	for _, p := range pages {
		if v, err := p.View(ctx, p.run); err == nil && v.Health != status.Over {
			return false
		}
	}
	return true
}
