//go:build cuda

package driver

/*
#include "calls.h"
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// FuncAttribute is a CUfunction_attribute that can be set.
type FuncAttribute int

// Function attributes.
const (
	// MaxDynamicShared is the most dynamic shared memory a launch may ask for, in
	// bytes; more than 48 KiB works only after setting it (up to Device.SharedOptIn).
	MaxDynamicShared FuncAttribute = 8
	// PreferredShared is the share of the on-chip memory used as shared memory, in
	// percent.
	PreferredShared FuncAttribute = 9
)

// SetFuncAttribute sets an attribute of a kernel.
func SetFuncAttribute(fn cu.Function, attr FuncAttribute, value int) error {
	// cu.Function is a struct of the one handle and has no accessor for it.
	f := *(*C.CUfunction)(unsafe.Pointer(&fn))
	return check("cuFuncSetAttribute", C.cuFuncSetAttribute(f, C.int(attr), C.int(value)))
}
