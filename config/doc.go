// Package config turns defaults, a YAML file, environment variables and --set
// flags (in that order of precedence, the last wins) into one typed, validated
// Config. It is the only package beside cmd/ that knows viper.
//
// Every setting has a dotted key (train.steps), an environment variable
// (AGRDIST_TRAIN_STEPS) and a one-line description; the table of them is made
// from the struct tags, so it cannot fall behind the code. An unknown key is an
// error that names the nearest known one.
//
// The package does not start anything and reads no file but the one it is given.
package config
