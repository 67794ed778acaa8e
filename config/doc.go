// Package config turns defaults, a YAML file, environment variables and --set
// flags (in that order of precedence, the last wins) into one typed, validated
// Config. It is the only package beside cmd/ that knows viper.
//
// Its one idea: a setting is a text until the type of its key reads it. YAML's own
// guesses (010 is 8, yes is true, 1e5 is a number, a date is a time) never count,
// so that a text means the same in a file, in the environment and after --set.
//
// Every setting has a dotted key (train.steps), an environment variable
// (AGRDIST_TRAIN_STEPS) and a one-line description; the table of them is made
// from the struct tags, so it cannot fall behind the code. An unknown key or
// variable is an error that names the nearest known one; what other trainers call
// a setting is known too. All faults of all sources are found at once.
//
// The package does not start anything and reads no file but the one it is given.
package config
