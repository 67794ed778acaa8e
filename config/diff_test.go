package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every key is changed in turn: those of the run are found, those of a node are not.
func TestDiffFindsEveryKeyOfTheRun(t *testing.T) {
	for _, k := range Keys() {
		a, b := Default(), Default()
		a.Data.Fingerprint = "0"
		b.Data.Fingerprint = "0"
		change(k.value(&b))
		diff := Diff(&a, &b)
		if k.Node {
			require.Empty(t, diff, k.Name)
			require.False(t, k.Bits, "%s: the model's bits cannot depend on what nodes set for themselves", k.Name)
			continue
		}
		require.Len(t, diff, 1, k.Name)
		require.Equal(t, Difference{k.Name, k.Value(&a), k.Value(&b)}, diff[0])
		require.Contains(t, Describe(diff, "here", "there"), k.Name+" is ")
	}
}

// change gives a field another value.
func change(f reflect.Value) {
	switch f.Kind() {
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Slice:
		f.Set(reflect.Append(f, reflect.Zero(f.Type().Elem())))
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Int, reflect.Int64:
		f.SetInt(f.Int() + 1)
	case reflect.Uint64:
		f.SetUint(f.Uint() + 1)
	case reflect.Float64:
		f.SetFloat(f.Float() + 1)
	default:
		panic(f.Kind())
	}
}

func TestDescribe(t *testing.T) {
	a, b := Default(), Default()
	require.Empty(t, Diff(&a, &b))
	b.Seed, b.LR.Base, b.Data.Fingerprint, b.Model.AttentionLevels = 7, 1, "known on one side only", nil
	a.Model.AttentionLevels = []int{}
	require.Equal(t, "seed is 42 here and 7 on node b; lr.base is 0.002 here and 1 on node b", Describe(Diff(&a, &b), "here", "on node b"))
	b.Model, b.Out = Model{}, "elsewhere"
	require.Regexp(t, `; and \d+ more keys differ$`, Describe(Diff(&a, &b), "here", "there"))
}
