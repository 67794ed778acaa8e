package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
)

// gave notes that a key was given. A copy of the configuration shares no map with it.
func (c *Config) gave(key string) {
	given := maps.Clone(c.given)
	if given == nil {
		given = map[string]bool{}
	}
	given[key] = true
	c.given = given
}

// SetFingerprint notes which images this node has, as if they had been given: it then
// agrees with the run's, or is refused.
func (c *Config) SetFingerprint(fingerprint string) {
	if c.Data.Fingerprint = fingerprint; fingerprint != "" {
		c.gave("data.fingerprint")
	}
}

// SharedHash identifies the settings that must be the same on all nodes of a run.
func (c *Config) SharedHash() string {
	h := sha256.New()
	for _, k := range Keys() {
		if !k.Node {
			fmt.Fprintf(h, "%s=%v\n", k.Name, shown(k.Value(c)))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Conflicts lists the keys that a file, the environment or --set gave this node and on
// which it must agree with run, and does not. What was left at its default conflicts
// with nothing.
func (c *Config) Conflicts(run *Config) []Difference {
	return differences(c, run, func(k Key) bool { return !k.Node && c.given[k.Name] })
}

// Adopt returns the configuration of a node that takes part in the run of another: the
// settings of a node (Key.Node) are its own, all others are those of run.
func (c *Config) Adopt(run *Config) *Config {
	adopted := *run
	adopted.given = c.given
	for _, k := range Keys() {
		if k.Node {
			k.value(&adopted).Set(k.value(c))
		}
	}
	return &adopted
}
