package launch

import (
	"fmt"
	"net"
	"os"
	"strings"

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
