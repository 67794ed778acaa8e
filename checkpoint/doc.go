// Package checkpoint keeps the state of a run on disk, so that a run that was
// stopped anywhere continues from its newest good checkpoint as if nothing had
// happened.
//
//	RUN/checkpoints/step-600/
//	    config.yaml              the resolved configuration
//	    unet_config.json         what diffusers calls unet/config.json
//	    scheduler_config.json
//	    model.safetensors        raw weights, diffusers keys, PyTorch layouts
//	    ema.safetensors          averaged weights, the same keys
//	    optimizer.safetensors    SLOT.KEY, the same layouts
//	    manifest.json            step, seed, cursor, size and SHA-256 of the above
//
// The one idea: a checkpoint is there whole or not at all. It is written to a
// directory of another name, synced, read back and compared with its manifest,
// and only then renamed; older ones go only after that. A reader believes
// nothing that the manifest's checksums do not confirm, and walks back to the
// newest checkpoint that they do. The state knows nothing of the world size.
//
// A writing store:
//
//	lock, err := checkpoint.LockRun(run)          // one writer a run
//	store := checkpoint.Open(filepath.Join(run, "checkpoints"), checkpoint.Options{Keep: 3})
//	snap, info, skipped, err := store.Newest(ctx) // ErrNoCheckpoint: a fresh start
//	err = store.SaveAsyncFunc(ctx, take)          // copies, returns, writes behind
//	err = store.Close()                           // waits for the last one
//
// SaveAsyncFunc has one save in flight at most. Its error is that of the save
// before: no failed save goes unseen, and none keeps the next from being tried.
//
// Export and Import write and read directories as diffusers does. The package does
// not decide when to save and does not know the model; subpackage safetensors is the
// file format.
package checkpoint
