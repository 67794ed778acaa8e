// Command promcheck checks the metrics of a real run: promtool accepts them, a real
// Prometheus scrapes them with the run's token, and every query of the Grafana dashboard
// and of the alert rules finds data.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/agrdist/agrdist/status"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: promcheck AGRDIST WORKDIR MONITORING")
		os.Exit(2)
	}
	if err := check(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(binary, work, monitoring string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := filepath.Join(work, "runs", "scraped")
	run := exec.CommandContext(ctx, binary, "run", "--out", dir, "--set", "train.steps=1000000", "--set", "train.global_batch=16", "--set", "train.chunk=4", "--set", "checkpoint.every=20")
	if err := run.Start(); err != nil {
		return err
	}
	defer func() { _ = run.Process.Kill(); _ = run.Wait() }() // the test is over
	var page status.Endpoint
	if err := until(ctx, "the run's page", func() bool {
		if all := status.Endpoints(dir); len(all) > 0 {
			page = all[0]
			v, err := (status.Client{URL: page.URL, Token: page.Token}).View(ctx, page.Run)
			return err == nil && v.CheckpointStep > 0
		}
		return false
	}); err != nil {
		return err
	}
	text, err := fetch(ctx, page.URL+"/metrics", page.Token)
	if err != nil {
		return err
	}
	lint := exec.CommandContext(ctx, "promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
		return fmt.Errorf("promtool check metrics: %w\n%s", err, out)
	}
	address, stop, err := prometheus(ctx, work, page)
	if err != nil {
		return err
	}
	defer stop()
	return queries(ctx, address, monitoring)
}

// prometheus starts a server that scrapes the page each second.
func prometheus(ctx context.Context, work string, page status.Endpoint) (address string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	cfg := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: agrdist\n  authorization: {credentials: %s}\n  static_configs: [{targets: [%q]}]\n",
		page.Token, strings.TrimPrefix(page.URL, "http://"))
	path := filepath.Join(work, "prometheus.yaml")
	if err := os.WriteFile(path, []byte(cfg), 0o600); err != nil {
		return "", nil, err
	}
	p := exec.CommandContext(ctx, "prometheus", "--config.file="+path, "--storage.tsdb.path="+filepath.Join(work, "tsdb"), "--web.listen-address="+address)
	var log strings.Builder
	p.Stderr = &log
	if err := p.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = p.Process.Kill(); _ = p.Wait() } // the test is over
	err = until(ctx, "Prometheus", func() bool {
		n, err := query(ctx, address, "count_over_time(agrdist_step[1m]) >= 5")
		return err == nil && n > 0
	})
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("%w\n%s", err, log.String())
	}
	return address, stop, nil
}

// queries runs what the dashboard asks for.
func queries(ctx context.Context, address, monitoring string) error {
	b, err := os.ReadFile(filepath.Join(monitoring, "grafana.json"))
	if err != nil {
		return err
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		return err
	}
	count := 0
	for _, p := range board.Panels {
		for _, t := range p.Targets {
			expr := strings.NewReplacer("$job", ".*", "$instance", ".*", "[5m]", "[1m]").Replace(t.Expr)
			n, err := query(ctx, address, expr)
			if err != nil {
				return fmt.Errorf("panel %q: %w", p.Title, err)
			}
			if n == 0 {
				return fmt.Errorf("panel %q: no data for %s", p.Title, expr)
			}
			count++
		}
	}
	fmt.Fprintf(os.Stdout, "prometheus: %d queries of the dashboard have data\n", count)
	return nil
}

func query(ctx context.Context, address, expr string) (series int, err error) {
	text, err := fetch(ctx, "http://"+address+"/api/v1/query?query="+url.QueryEscape(expr), "")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", expr, text)
	}
	return len(answer.Data.Result), nil
}

func fetch(ctx context.Context, address, token string) (string, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return "", err
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", address, r.Status, b)
	}
	return string(b), nil
}

func until(ctx context.Context, what string, f func() bool) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited in vain for %s", what), ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}
