//go:build cuda

package nccl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/agrdist/agrdist/allreduce"
)

// Endpoint connects the ranks of a generation. *mesh.Endpoint is one.
type Endpoint interface {
	Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error)
}

// Connector makes groups that exchange the memory of the ranks' devices.
type Connector struct {
	Endpoint Endpoint
	// Library is nil where this rank has no NCCL: then no rank uses it.
	Library *Library
	Lane    Lane
	Logger  *slog.Logger // may be nil
}

// offer is what a rank says of itself to the others of a new generation.
type offer struct {
	Version string // of the library; "" without one
	Device  string
	ID      []byte // of rank 0: the communicator's
}

// Connect connects the ranks, and, where all of them can, makes a communicator beside
// the connections: the group is then an allreduce.DeviceGroup. Where it is not, the
// log says why. Errors are those of the connections.
func (c *Connector) Connect(ctx context.Context, cfg allreduce.GroupConfig) (allreduce.Group, error) {
	base, err := c.Endpoint.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if base.Size() == 1 {
		return base, nil
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.OpTimeout == 0 {
		cfg.OpTimeout = allreduce.DefaultOpTimeout
	}
	comm, reason, err := c.join(ctx, base, cfg)
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	if comm == nil {
		log.WarnContext(ctx, "gradients are copied through the host", "generation", cfg.Generation, "reason", reason)
		return base, nil
	}
	w := base.(allreduce.Watched) //nolint:forcetypeassert // join has seen it
	log.InfoContext(ctx, "communicator", "rank", cfg.Rank, "world_size", base.Size(), "generation", cfg.Generation,
		"library", c.Library.Path(), "version", c.Library.Version())
	return newGroup(base, w, cfg, c.Lane, comm, log), nil
}

// join agrees with the other ranks and makes the communicator; nil, with the reason,
// where one of them cannot. An error is one of the connections.
func (c *Connector) join(ctx context.Context, base allreduce.Group, cfg allreduce.GroupConfig) (*Comm, string, error) {
	own := offer{Device: c.Lane.ID()}
	_, watched := base.(allreduce.Watched)
	if c.Library != nil && watched {
		own.Version = c.Library.Version()
		if base.Rank() == 0 {
			id, err := c.Library.NewID()
			if err != nil {
				return nil, "", err
			}
			own.ID = id[:]
		}
	}
	offers, err := exchange(ctx, base, own)
	if err != nil {
		return nil, "", err
	}
	if reason := refuse(offers); reason != "" {
		return nil, reason, nil
	}
	var id ID
	copy(id[:], offers[0].ID)
	comm, failed := c.init(ctx, base, id, cfg)
	said := ""
	if failed != nil {
		said = failed.Error()
	}
	// All or none: a rank without a communicator would leave the others waiting.
	results, err := exchange(ctx, base, said)
	if err == nil {
		for rank, r := range results {
			if r != "" && said == "" {
				said = fmt.Sprintf("rank %d: %s", rank, r)
			}
		}
	}
	if comm != nil && (err != nil || said != "") {
		comm.Abort()
		comm = nil
	}
	return comm, said, err
}

// init joins the communicator. The connections' failure ends it.
func (c *Connector) init(ctx context.Context, base allreduce.Group, id ID, cfg allreduce.GroupConfig) (comm *Comm, err error) {
	// Half of the operations' time: the exchange that follows has the whole.
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.OpTimeout/2, fmt.Errorf("the ranks have not met within %v", cfg.OpTimeout/2))
	defer cancel()
	w := base.(allreduce.Watched) //nolint:forcetypeassert // the version said so
	go func() {
		select {
		case <-w.Dead():
			cancel()
		case <-ctx.Done():
		}
	}()
	err = c.Lane.Current(func() (err error) {
		comm, err = c.Library.Init(ctx, id, base.Size(), base.Rank())
		return err
	})
	return comm, err
}

// refuse says why these ranks cannot have a communicator, "" if they can.
func refuse(offers []offer) string {
	seen := map[string]int{}
	for rank, o := range offers {
		switch {
		case o.Version == "":
			return fmt.Sprintf("rank %d has no NCCL", rank)
		case o.Version != offers[0].Version:
			return fmt.Sprintf("rank %d has NCCL %s, rank 0 has %s", rank, o.Version, offers[0].Version)
		}
		if other, ok := seen[o.Device]; ok {
			return fmt.Sprintf("ranks %d and %d share a GPU (%s)", other, rank, o.Device)
		}
		seen[o.Device] = rank
	}
	if len(offers[0].ID) != len(ID{}) {
		return "rank 0 gave no id"
	}
	return ""
}

// exchange gathers a value of every rank.
func exchange[T any](ctx context.Context, g allreduce.Group, own T) ([]T, error) {
	word, err := json.Marshal(own)
	if err != nil {
		return nil, fmt.Errorf("nccl: %w", err) // never: the types are plain
	}
	words, err := g.AllGather(ctx, word)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(words))
	for rank, w := range words {
		if err := json.Unmarshal(w, &all[rank]); err != nil {
			return nil, fmt.Errorf("nccl: what rank %d says cannot be read: %w", rank, err)
		}
	}
	return all, nil
}
