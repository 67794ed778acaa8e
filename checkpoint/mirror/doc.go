// Package mirror copies checkpoints to an object store and back, so that a run whose
// volume is gone continues from what it had copied.
//
//	PREFIX/step-600/
//	    config.yaml ... optimizer.safetensors    the files of the checkpoint, as on disk
//	    manifest.json                            last: the mark that the others are there
//
// The one idea: a checkpoint in the bucket is there when its manifest.json is, as on disk
// it is there when its directory has its name. An upload that ends anywhere leaves
// nothing that passes for a checkpoint, and whatever comes back is verified against the
// manifest's checksums before anybody uses it.
//
//	bucket, err := s3.Open(...)
//	m := mirror.New(bucket, mirror.Options{Keep: 3})
//	info, ok, skipped, err := m.Restore(ctx, store, newestHere) // at the start
//	up := mirror.Start(m, say)
//	up.Add(step, dir)      // after the local save verified; returns at once
//	err = up.Wait(ctx)     // before the process ends
//
// Saved is what the local disk has: the mirror follows behind, and its failures are told
// and repeated, but never slow or end the run. The package does not decide when to save,
// and knows no protocol: subpackage s3 does.
package mirror
