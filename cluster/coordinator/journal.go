package coordinator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/cluster"
)

// journalVersion is that of the file's form.
const journalVersion = 1

type journalFile struct {
	Version int
	Journal cluster.Journal
}

// ReadJournal reads the journal of a run; one that is not there is empty.
func ReadJournal(path string) (cluster.Journal, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return cluster.NewJournal(), nil
	}
	if err != nil {
		return cluster.Journal{}, fmt.Errorf("coordinator: read journal: %w", err)
	}
	j, err := parseJournal(raw)
	if err != nil {
		return cluster.Journal{}, fmt.Errorf("coordinator: journal %s: %w; "+
			"remove it to start without (the workers' own reports then tell where the run is)", path, err)
	}
	return j, nil
}

// KeepJournal replaces the journal of a node that holds no coordinator by what it saw of
// the run, unless it has kept something newer.
func KeepJournal(path string, seen cluster.Journal) error {
	kept, err := ReadJournal(path)
	if err != nil || !seen.Supersedes(kept) {
		return err
	}
	return writeJournal(path, seen)
}

func parseJournal(raw []byte) (cluster.Journal, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var f journalFile
	if err := dec.Decode(&f); err != nil {
		return cluster.Journal{}, err
	}
	if f.Version != journalVersion {
		return cluster.Journal{}, fmt.Errorf("form %d, this build reads %d", f.Version, journalVersion)
	}
	return f.Journal, nil
}

// writeJournal replaces the file in one step: after a crash it is the old or the
// new one, whole.
func writeJournal(path string, j cluster.Journal) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("coordinator: write journal: %w", err)
		}
	}()
	raw, err := json.MarshalIndent(journalFile{Version: journalVersion, Journal: j}, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(raw)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil // the rename is done; only its durability is unsure
	}
	return errors.Join(d.Sync(), d.Close())
}
