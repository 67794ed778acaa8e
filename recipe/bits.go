package recipe

import (
	"fmt"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/isa"
)

// What the manifest of a checkpoint says about what computed it, beside the program's
// version.
const (
	MetaRounding  = "rounding" // all that the last bits depend on beside the configuration: "cpu/avx512 bf16"
	MetaPrecision = "precision"
	MetaDevice    = "device"
)

// Meta is what a checkpoint says about what computed it.
func Meta(c *config.Config, rounding string) map[string]string {
	device, _, _ := strings.Cut(rounding, "/")
	return map[string]string{MetaRounding: rounding, MetaPrecision: c.Train.Precision, MetaDevice: device}
}

// SameBits compares what computed a checkpoint with what would continue it. Where
// either is not known there is nothing to compare.
func SameBits(snap *checkpoint.Snapshot, path, rounding string) error {
	saved := snap.Meta[MetaRounding]
	if saved == "" || rounding == "" || saved == rounding {
		return nil
	}
	return &config.Error{Source: "resume", Err: &OtherBitsError{Path: path, Saved: saved, Here: rounding}}
}

// OtherBitsError says that a checkpoint was computed by other kernels than those that
// would continue it.
type OtherBitsError struct{ Path, Saved, Here string }

func (e *OtherBitsError) Error() string {
	way, hint := "continue it where it was computed", ""
	if set, cpu := strings.CutPrefix(e.Saved, "cpu/"); cpu && strings.HasPrefix(e.Here, "cpu/") {
		set, _, _ = strings.Cut(set, " ")
		if _, err := isa.Parse(set); set == isa.Rounding {
			way = "set train.cpu=portable"
		} else if err == nil {
			way = fmt.Sprintf("set %s=%s", isa.Env, set)
		} else {
			hint = " (a run that is started with train.cpu=portable can be continued on any processor)"
		}
	}
	return fmt.Sprintf("%s was computed on %s; here it would be continued on %s, which rounds differently, and the result would equal neither's. "+
		"Either %s, or accept that with --allow-other-bits%s", e.Path, e.Saved, e.Here, way, hint)
}
