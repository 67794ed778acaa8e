package fetch

import (
	"testing"

	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
