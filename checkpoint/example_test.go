package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/checkpoint"
)

// A run that saves in the background, and its successor that goes on.
func Example() {
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(run)
	ctx := context.Background()

	lock, err := checkpoint.LockRun(run)
	if err != nil {
		panic(err)
	}
	store := checkpoint.Open(filepath.Join(run, "checkpoints"), checkpoint.Options{Keep: 2})
	_, _, _, err = store.Newest(ctx)
	fmt.Fprintln(os.Stdout, "fresh start:", errors.Is(err, checkpoint.ErrNoCheckpoint))

	weights := []float32{0, 0}
	for step := int64(1); step <= 3; step++ {
		weights[0]++ // training
		err := store.SaveAsync(ctx, &checkpoint.Snapshot{
			Step: step, Updates: step,
			Model: []checkpoint.Tensor{{Name: "conv_in.bias", Shape: []int{2}, Data: weights}},
		})
		if err != nil { // of the save before
			panic(err)
		}
	}
	if err := errors.Join(store.Close(), lock.Unlock()); err != nil {
		panic(err)
	}

	snap, info, skipped, err := checkpoint.Open(store.Dir(), checkpoint.Options{}).Newest(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, filepath.Base(info.Path), snap.Model[0].Data, len(skipped))
	// Output:
	// fresh start: true
	// step-3 [3 0] 0
}
