// Package recipe says what the documents beside weights mean: the configuration, the
// forward process and the sampler that a model belongs to, and whether a
// configuration may continue a checkpoint.
//
//	src, err := rundir.OpenWeights(ctx, path, raw)
//	r, err := recipe.Of(src)
//	model, err := setup.Model(backend, r.Config)
//	err = model.Load(src.Weights())
//
// Its one idea: rundir reads files and knows no configuration, setup builds parts and
// knows no files; this package is where the two meet. It trains nothing and draws
// nothing.
package recipe
