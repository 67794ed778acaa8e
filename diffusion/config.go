package diffusion

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxTimesteps bounds T: far above what anyone trains with, low enough that a
// number in a foreign file cannot exhaust the memory.
const MaxTimesteps = 100_000

// Config is the forward process and what the network predicts of it.
type Config struct {
	Timesteps  int        // T, the length of the forward process
	Schedule   string     // Linear, Cosine or Sigmoid
	Prediction Prediction // Epsilon, X0 or V
}

// DefaultConfig is DDPM's: 1000 steps, linear, epsilon.
func DefaultConfig() Config {
	return Config{Timesteps: 1000, Schedule: Linear, Prediction: Epsilon}
}

// Validate reports everything that is wrong, one line each, by the key's name.
func (c Config) Validate() error {
	var errs []error
	if c.Timesteps < 1 || c.Timesteps > MaxTimesteps {
		errs = append(errs, fmt.Errorf("diffusion.timesteps is %d; it must be 1 to %d", c.Timesteps, MaxTimesteps))
	}
	errs = append(errs,
		choice("diffusion.schedule", c.Schedule, Linear, Cosine, Sigmoid),
		choice("diffusion.prediction", string(c.Prediction), predictionNames()...))
	return errors.Join(errs...)
}

// choice is nil when value is one of the allowed ones.
func choice(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s is %q; choose one of %s", key, value, strings.Join(allowed, ", "))
}
