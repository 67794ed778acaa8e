//go:build !linux

package usage

import "testing"

func TestMain(m *testing.M) { verify(m) }
