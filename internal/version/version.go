// Package version names this build, for `agrdist version`, checkpoints and the
// check that all processes of a run are the same program.
package version

import (
	"runtime"
	"runtime/debug"
)

// Version is the release; a release build sets it with
// -ldflags "-X github.com/agrdist/agrdist/internal/version.Version=v1.2.3".
var Version = "0.1.0-dev"

// Build is the release and, where it is known, the commit.
func Build() string {
	revision, dirty := vcs()
	if revision == "" {
		return Version
	}
	if dirty {
		revision += "+dirty"
	}
	return Version + " " + revision
}

// Platform is what the program was compiled for and with.
func Platform() string { return runtime.GOOS + "/" + runtime.GOARCH + " " + runtime.Version() }

func vcs() (revision string, dirty bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	return revision, dirty
}
