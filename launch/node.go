package launch

import (
	"net"
	"os"
	"strings"

	"github.com/agrdist/agrdist/internal/text"
)

// hostName is part of a node's name.
func hostName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "node"
	}
	host, _, _ = strings.Cut(host, ".")
	return text.Valid(host) // it goes into messages and file names
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
