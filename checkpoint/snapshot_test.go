package checkpoint

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	require.NoError(t, state(10).Validate())
	for want, change := range map[string]func(*Snapshot){
		"step -1":                                              func(s *Snapshot) { s.Step = -1 },
		"step 10 with 11 updates":                              func(s *Snapshot) { s.Updates = 11 },
		"no model tensors":                                     func(s *Snapshot) { s.Model = nil },
		`model: "conv_in.bias" occurs`:                         func(s *Snapshot) { s.Model = append(s.Model, s.Model[1]) },
		"has shape [4] and 3 elements":                         func(s *Snapshot) { s.Model[1].Data = s.Model[1].Data[:3] },
		"has shape [-4]":                                       func(s *Snapshot) { s.EMA[1].Shape = []int{-4} },
		"has shape [4611686018427387904 4]":                    func(s *Snapshot) { s.EMA[1].Shape = []int{1 << 62, 4} },
		`ema: "conv_in.bias" is missing`:                       func(s *Snapshot) { s.EMA = slices.Delete(s.EMA, 1, 2) },
		`ema: "x" is not expected`:                             func(s *Snapshot) { s.EMA = append(s.EMA, Tensor{Name: "x", Data: make([]float32, 1)}) },
		`ema: "conv_in.bias" has shape [2 2], not [4]`:         func(s *Snapshot) { s.EMA[1].Shape = []int{2, 2} },
		`optimizer slot "exp_avg": "conv_in.bias" is missing`:  func(s *Snapshot) { s.Optimizer = slices.Delete(s.Optimizer, 1, 2) },
		`optimizer slot "neg_pre_grad": "conv_in.bias" occurs`: func(s *Snapshot) { s.Optimizer = append(s.Optimizer, s.Optimizer[5]) },
		`optimizer slot "y": "conv_in.weight" is missing`:      func(s *Snapshot) { s.Optimizer[0].Name = "y.conv_in.bias" },
		`"noslot" is not SLOT.KEY`:                             func(s *Snapshot) { s.Optimizer[0].Name = "noslot" },
		"meta \"k\" is not UTF-8":                              func(s *Snapshot) { s.Meta["k"] = "\xff" },
		"the config hash is not UTF-8":                         func(s *Snapshot) { s.ConfigHash = "\xff" },
	} {
		s := state(10)
		change(s)
		err := s.Validate()
		require.ErrorIs(t, err, ErrSnapshot, want)
		require.ErrorContains(t, err, want)
	}
	s := state(10)
	s.EMA, s.Optimizer = nil, nil
	require.NoError(t, s.Validate(), "a state without EMA and moments is one")
}

// The digest of a state worked out by hand: sha256 over the float32 of
// model a, b, then ema a, b, then m.a, m.b.
// python3: hashlib.sha256(struct.pack("<8f",1,2,-0.0,3.5,4,5,6,7)).hexdigest()
func TestDigestKnownAnswer(t *testing.T) {
	s := &Snapshot{
		Model:     []Tensor{{Name: "b", Shape: nil, Data: []float32{float32(math.Copysign(0, -1))}}, {Name: "a", Shape: []int{2}, Data: []float32{1, 2}}},
		EMA:       []Tensor{{Name: "a", Shape: []int{1}, Data: []float32{3.5}}, {Name: "b", Shape: nil, Data: []float32{4}}},
		Optimizer: []Tensor{{Name: "m.b", Shape: nil, Data: []float32{6, 7}}, {Name: "m.a", Shape: nil, Data: []float32{5}}},
	}
	require.Equal(t, "4a214f56bbbfcb09342b11e3c710364a72e0b417383944f3f5d729da66094c9d", Digest(s))
}

// The digest does not see the order of the lists, names kept in order, or
// shapes; it sees every bit of every element.
func TestDigestSeesEveryBit(t *testing.T) {
	want := Digest(state(7))
	s := state(7)
	slices.Reverse(s.Model)
	slices.Reverse(s.Optimizer)
	s.Meta, s.Seed = nil, 1
	require.Equal(t, want, Digest(s))
	seen := map[string]bool{want: true}
	for i := range 3 {
		s := state(7)
		list := [][]Tensor{s.Model, s.EMA, s.Optimizer}[i]
		for _, t2 := range list {
			for j := range t2.Data {
				old := t2.Data[j]
				t2.Data[j] = math.Float32frombits(math.Float32bits(old) ^ 1)
				d := Digest(s)
				require.False(t, seen[d])
				seen[d] = true
				t2.Data[j] = old
			}
		}
	}
}

func TestStagingCopiesAndReuses(t *testing.T) {
	var g Staging
	live := state(1)
	c := g.Copy(live)
	requireState(t, live, c)
	for _, list := range [][]Tensor{live.Model, live.EMA, live.Optimizer} {
		for _, x := range list {
			for j := range x.Data {
				x.Data[j]++
			}
			for j := range x.Shape {
				x.Shape[j]++
			}
		}
	}
	live.Config[0], live.Meta["dataset"] = 'X', "changed"
	requireState(t, state(1), c)

	first := &c.Model[0].Data[0]
	c = g.Copy(state(2))
	requireState(t, state(2), c)
	require.Same(t, first, &c.Model[0].Data[0], "the buffers are used again")
	require.Len(t, g.Buffer("model/scale", 5), 5, "another length takes another buffer")
}
