package coordinator

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
)

// journalVersion is that of the file's form. The first had no checksum.
const journalVersion = 2

type journalFile struct {
	Version int
	Journal cluster.Journal
}

// DamagedJournalError says that the journal of a run is not what was written.
type DamagedJournalError struct {
	Path string
	Err  error
}

// Error says what is lost and how to continue.
func (e *DamagedJournalError) Error() string {
	return fmt.Sprintf("coordinator: %s, the record of which nodes are in the run, cannot be used (%v); no checkpoint is affected: "+
		"if another node of this run is running, move the file away and join that node (--join HOST:PORT); "+
		"if none is, move it away and give the same commands again, and the run continues from its newest checkpoint", e.Path, e.Err)
}

// ReadJournal reads the journal of a run; one that is not there is empty. The error is a
// *DamagedJournalError if there is one that says nothing certain.
func ReadJournal(path string) (cluster.Journal, error) {
	raw, err := vfs.ReadFile(vfs.OS{}, path, sealed.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		return cluster.NewJournal(), nil
	}
	if err != nil {
		return cluster.Journal{}, fmt.Errorf("coordinator: read journal: %w", err)
	}
	j, err := parseJournal(raw)
	if err != nil {
		return cluster.Journal{}, &DamagedJournalError{path, err}
	}
	return j, nil
}

// KeepJournal replaces the journal of a node that holds no coordinator by what it saw of
// the run, unless it has kept something newer.
func KeepJournal(path string, seen cluster.Journal) error {
	kept, err := ReadJournal(path)
	if _, damaged := errors.AsType[*DamagedJournalError](err); damaged {
		// It was good when this process began, and had nothing newer than what was
		// seen since.
		return writeJournal(path, seen)
	}
	if err != nil || !seen.Supersedes(kept) {
		return err
	}
	return writeJournal(path, seen)
}

func parseJournal(raw []byte) (cluster.Journal, error) {
	var f journalFile
	checked, err := sealed.Unmarshal(raw, &f)
	switch {
	case err != nil:
		return cluster.Journal{}, err
	case f.Version < 1 || f.Version > journalVersion:
		return cluster.Journal{}, fmt.Errorf("it has form %d, and this build reads up to %d", f.Version, journalVersion)
	case f.Version > 1 && !checked:
		return cluster.Journal{}, fmt.Errorf("%w: it has no checksum", sealed.ErrDamaged)
	}
	return f.Journal, nil
}

// writeJournal replaces the file in one step: after a crash it is the old or the
// new one, whole.
func writeJournal(path string, j cluster.Journal) error {
	if err := sealed.Write(vfs.OS{}, path, journalFile{Version: journalVersion, Journal: j}); err != nil {
		return fmt.Errorf("coordinator: write journal: %w", err)
	}
	return nil
}
