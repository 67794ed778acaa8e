package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
)

// Identity is what a node keeps over its processes, in RUN/nodes: its name, its ports,
// and where it last found the others. The same command that is given again, after a kill
// or a power cut, is the same node (docs/adr/0020).
//
// Two locks guard it. One is the agent's: an identity without it is free. The
// other is on a file that the workers have open too: who gets it knows that the
// agent before and all its workers are gone.
type Identity struct {
	mu sync.Mutex
	kept
	path    string
	agent   *os.File
	workers *os.File
	back    bool // it has been here before
}

// ErrRuns says that another process is the node of that name.
var ErrRuns = errors.New("is running already from this directory")

// kept is the file.
type kept struct {
	Node       string   `json:"node"`
	GossipPort int      `json:"gossip_port,omitempty"`
	RPCPort    int      `json:"rpc_port,omitempty"`
	Term       uint64   `json:"term,omitempty"`
	Peers      []string `json:"peers,omitempty"` // gossip addresses of the others
}

const (
	// workersWait is how long the workers of an agent that was killed may take to go.
	workersWait = 10 * time.Second
	maxPeers    = 32
	// maxAgents is how many agents of one host may share a run's directory.
	maxAgents = 64
)

// Identify finds out which node of the run this process is, or makes it a new one.
// dir is where the nodes of the run keep this (rundir.Dir.Nodes); of several agents
// that share it on one host each gets an identity of its own. name is the node's name
// if it was configured; otherwise a new one is the host's, made unique unless the node
// is the only one of its run.
func Identify(ctx context.Context, dir, name, host string, alone bool) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the node's identity: %w", err)
	}
	if err := sealed.Sweep(vfs.OS{}, dir); err != nil {
		return nil, fmt.Errorf("clear the directory of the node's identity: %w", err)
	}
	if name != "" {
		id, err := claim(ctx, filepath.Join(dir, file(name)), alone)
		if err != nil {
			return nil, err
		}
		if id == nil {
			return nil, fmt.Errorf("node %q %w: stop it, or set another cluster.node", name, ErrRuns)
		}
		id.Node = name
		return id, id.save()
	}
	for i := range maxAgents {
		base := file(host)
		if i > 0 {
			base = fmt.Sprintf("%s.%d", base, i)
		}
		id, err := claim(ctx, filepath.Join(dir, base), alone)
		if err != nil {
			return nil, err
		}
		if id == nil {
			continue
		}
		if id.Node == "" && alone {
			id.Node = host
		}
		if id.Node == "" {
			var random [3]byte
			_, _ = rand.Read(random[:]) // never fails (crypto/rand)
			id.Node = host + "-" + hex.EncodeToString(random[:])
		}
		return id, id.save()
	}
	return nil, fmt.Errorf("%d agents of this host share %s: give each node a directory of its own (--out)", maxAgents, filepath.Dir(dir))
}

// file is the name of a node's file.
func file(name string) string {
	return strings.Map(func(r rune) rune {
		if r == filepath.Separator || r == 0 {
			return '_'
		}
		return r
	}, name)
}

// claim takes an identity, waiting for the workers of its last process to go; nil
// if an agent has it. A damaged one of a node that is alone in its run is made again:
// the locks prove that its predecessor is gone, and nobody else knows its name.
func claim(ctx context.Context, path string, alone bool) (*Identity, error) {
	id := &Identity{path: path}
	var err error
	if id.agent, err = lock(ctx, path+".agent.lock", 0); err != nil || id.agent == nil {
		return nil, err
	}
	fail := func(err error) (*Identity, error) { return nil, errors.Join(err, id.Close()) }
	if id.workers, err = lock(ctx, path+".workers.lock", workersWait); err != nil {
		return fail(err)
	}
	if id.workers == nil {
		return fail(fmt.Errorf("workers of this node's last process are still there after %s (a hung driver, perhaps): "+
			"end them, or choose another --out", workersWait))
	}
	err = id.kept.read(path + ".json")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, sealed.ErrDamaged) && alone:
		id.kept = kept{}
	case errors.Is(err, sealed.ErrDamaged):
		return fail(fmt.Errorf("%s.json, which says what node of the run this is, cannot be used (%w); no checkpoint is affected: "+
			"move the file away and give the same command again with --set cluster.node=NAME, "+
			"where NAME is what this node's logs begin with (RUN/logs/NAME-agent.log), and with --join HOST:PORT if another node is running", path, err))
	case err != nil:
		return fail(fmt.Errorf("read the node's identity: %w", err))
	}
	id.back = id.Node != ""
	return id, nil
}

// read reads the file. What was changed since it was written is refused: with another
// name, the node would be another node of its run.
func (k *kept) read(path string) error {
	if _, err := sealed.Read(vfs.OS{}, path, k); err != nil {
		return err
	}
	valid := k.Node != "" && port(k.GossipPort) && port(k.RPCPort)
	for _, p := range k.Peers {
		_, _, err := net.SplitHostPort(p)
		valid = valid && err == nil
	}
	if !valid {
		return fmt.Errorf("%w: its values make no sense", sealed.ErrDamaged)
	}
	return nil
}

func port(n int) bool { return n >= 0 && n <= 65535 }

// lock takes the lock of a file, trying for as long as patience lasts; nil if
// somebody else has it.
func lock(ctx context.Context, path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the node's identity: %w", err)
	}
	by := time.Now().Add(patience)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock the node's identity %s: %w", path, err), f.Close())
		}
		if !time.Now().Before(by) {
			return nil, f.Close()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// save writes the file.
func (id *Identity) save() error {
	if err := sealed.Write(vfs.OS{}, id.path+".json", id.kept); err != nil {
		return fmt.Errorf("keep the node's identity: %w", err)
	}
	return nil
}

// ports notes the ports that this node listens on; 0 leaves one as it was.
func (id *Identity) ports(gossip, rpc int) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	before := id.kept
	id.GossipPort, id.RPCPort = cmp.Or(gossip, id.GossipPort), cmp.Or(rpc, id.RPCPort)
	if id.GossipPort == before.GossipPort && id.RPCPort == before.RPCPort {
		return nil
	}
	return id.save()
}

// meet notes where the others are, and the highest term of a coordinator.
func (id *Identity) meet(peers []string, term uint64) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	peers = slices.Clone(peers)
	slices.Sort(peers)
	peers = slices.Compact(peers)
	peers = peers[:min(len(peers), maxPeers)]
	if len(peers) == 0 || slices.Equal(peers, id.Peers) && term <= id.Term {
		return nil // who is alone now still knows whom to look for
	}
	id.Peers, id.Term = peers, max(term, id.Term)
	return id.save()
}

// Close gives the identity up; it stays kept. It may be nil.
func (id *Identity) Close() error {
	if id == nil {
		return nil
	}
	var errs []error
	for _, f := range []*os.File{id.workers, id.agent} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
