package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/agent"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/config"
)

// givenSecrets are the secrets that the user has given to the run, as they are, the one in
// use first; nil: none.
func givenSecrets(c *config.Config) (secrets [][]byte, err error) {
	source := "cluster.secret"
	switch {
	case c.Cluster.SecretFile != "":
		source = "cluster.secret_file"
		secrets, err = security.LoadSecrets(c.Cluster.SecretFile)
	case c.Cluster.Secret != "":
		secrets, err = security.ParseSecrets(c.Cluster.Secret)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, &config.Error{Source: source, Err: err}
	}
	return secrets, nil
}

// stretch makes of given secrets those that the run uses.
func stretch(given [][]byte, c *config.Config) (secrets [][]byte) {
	for _, s := range given {
		secrets = append(secrets, security.Stretch(s, c.Cluster.RunID))
	}
	return secrets
}

// secretEvery is the pause between two looks at cluster.secret_file. A change counts at the
// second look that finds it.
const secretEvery = time.Second

// watchSecret follows cluster.secret_file until the context ends; nil where the run's
// secret does not come from there.
func (r *run) watchSecret(ctx context.Context, given [][]byte, log *slog.Logger) <-chan [][]byte {
	c := r.cfg
	if c.Cluster.SecretFile == "" || given == nil {
		return nil
	}
	out := make(chan [][]byte)
	go func() {
		watch := security.NewWatch(c.Cluster.SecretFile, given)
		tick := time.NewTicker(secretEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			next, err := watch.Look()
			if err != nil {
				log.Warn("cluster.secret_file changed and cannot be used; the secrets of before stay in force", "err", err)
				r.notice(fmt.Sprintf("cluster.secret_file changed and cannot be used, so the secrets of before stay in force: %v", err))
			}
			if next == nil {
				continue
			}
			select {
			case out <- stretch(next, c):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// rotated tells that other secrets are in force.
func (r *run) rotated(fingerprints []string) {
	text := "the run's secret is " + fingerprints[0] + " on this node from now on"
	if len(fingerprints) > 1 {
		text += ", and " + strings.Join(fingerprints[1:], ", ") + " is accepted"
	}
	r.notice(text)
}

// nameByCertificate gives the node the name that its certificate has, where nobody gave one.
func (r *run) nameByCertificate() (err error) {
	c := &r.cfg.Cluster
	if c.Node != "" || c.CertFile == "" {
		return nil
	}
	if c.Node, err = security.NodeOf(c.CertFile); err != nil {
		return &config.Error{Source: "cluster.cert_file", Err: err}
	}
	return nil
}

// ownSecret is the secret of a run whose user has given none, and which stays on the
// loopback interface: nil where it does not. The node that starts the run makes it,
// the others on this machine take it from there.
func (r *run) ownSecret(ctx context.Context, stop <-chan os.Signal) ([]byte, error) {
	c := r.cfg.Cluster
	if security.RequireSecretBeyondLoopback(c.Bind, nil) != nil {
		return nil, nil //nolint:nilerr // the agent says what to do
	}
	if len(c.Join) > 0 {
		return r.awaitSecret(ctx, stop)
	}
	secret, err := security.KeepSecret(r.dir.Secret())
	if errors.Is(err, security.ErrSecretFile) && c.Lone() {
		// A file system without modes, say. The workers inherit the secret.
		return security.GenerateSecret(), nil
	}
	return secret, err
}

// Pauses of awaitSecret.
const (
	secretPoll = 100 * time.Millisecond
	secretHint = 2 * time.Second
)

// awaitSecret waits until a run of this user on this machine waits at one of the
// addresses to join.
func (r *run) awaitSecret(ctx context.Context, stop <-chan os.Signal) ([]byte, error) {
	seeds := r.cfg.Cluster.Join
	patience := config.Duration(r.cfg.Cluster.StartTimeout)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const advice = "if it runs on another machine, as another user or with a secret, AGRDIST_CLUSTER_SECRET or cluster.secret_file must be the same on every node"
	hint := time.After(secretHint)
	poll := time.NewTicker(secretPoll)
	defer poll.Stop()
	for {
		for _, seed := range slices.Concat(seeds, r.peers) {
			secret, err := security.LocalSecret(seed)
			if !errors.Is(err, security.ErrNoLocalSecret) {
				return secret, err
			}
		}
		select {
		case <-poll.C:
		case <-hint:
			r.notice(fmt.Sprintf("waiting for a run of this user at %s; %s", seeds[0], advice))
		case sig := <-stop:
			return nil, &agent.SignalError{Signal: signalName(sig)}
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("no run of this user has waited at %s within %s (cluster.start_timeout); %s", seeds[0], patience, advice)
		}
	}
}

// publish lets other nodes on this machine find a secret of the run's own.
func (r *run) publish(addr string, secret []byte) {
	remove, err := security.PublishLocal(addr, secret)
	if err != nil {
		r.notice(fmt.Sprintf("other nodes on this machine cannot join: %v", err))
		return
	}
	r.unpublish = remove
}
