package status

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// NewRun returns a run that is known by its files alone.
func NewRun(name, dir string) *Run {
	r := &Run{Name: name, Dir: dir}
	r.prepare()
	return r
}

// One is the Runs of a server that shows one run.
func One(r *Run) func() ([]*Run, error) {
	r.prepare()
	all := []*Run{r}
	return func() ([]*Run, error) { return all, nil }
}

func (r *Run) prepare() {
	if r.history == nil {
		r.history = newHistory(r.Dir)
	}
}

// Library finds the runs under a directory, as they come and go.
type Library struct {
	dir     string
	differs func(yaml []byte) ([]Setting, error)

	mu   sync.Mutex
	runs map[string]*Run
}

// NewLibrary returns the runs under dir; see Run.Differs.
func NewLibrary(dir string, differs func(yaml []byte) ([]Setting, error)) *Library {
	return &Library{dir: dir, differs: differs, runs: map[string]*Run{}}
}

// Runs lists them, newest first.
func (l *Library) Runs() ([]*Run, error) {
	dirs, err := Find(l.dir)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*Run, 0, len(dirs))
	for _, d := range dirs {
		r := l.runs[d]
		if r == nil {
			name, err := filepath.Rel(l.dir, d)
			if err != nil {
				return nil, fmt.Errorf("status: %w", err)
			}
			if name == "." {
				name = filepath.Base(d)
			}
			r = &Run{Name: filepath.ToSlash(name), Dir: d, Differs: l.differs}
			r.prepare()
			l.runs[d] = r
		}
		out = append(out, r)
	}
	return out, nil
}

// Close closes the files that are open.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, r := range l.runs {
		errs = append(errs, r.history.close())
	}
	return errors.Join(errs...)
}
