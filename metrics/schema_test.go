package metrics

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("events.schema.json")
	require.NoError(t, err)
	return s
}

func document(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	return v
}

func TestSchemaTakesAndRefuses(t *testing.T) {
	s := schema(t)
	const at = `"time":"2026-01-02T03:04:05.678Z"`
	for _, good := range []string{
		`{"event":"start","step":0,"steps":10,` + at + `}`,
		`{"event":"step","step":1,"loss":0.5,"world_size":2,"generation":1,` + at + `}`,
		`{"event":"stop","step":1,` + at + `}`,
	} {
		require.NoError(t, s.Validate(document(t, good)), good)
	}
	for _, bad := range []string{
		`{"event":"step","step":1,"world_size":2,"generation":1}`,
		`{"event":"step","step":1,"loss":"nan","world_size":2,"generation":1,` + at + `}`,
		`{"event":"step","step":-1,"world_size":2,"generation":1,` + at + `}`,
		`{"event":"epoch","step":1,` + at + `}`,
		`{"event":"stop","step":1,"losss":3,` + at + `}`,
		`{"event":"finish","step":1,"steps":1,"model_digest":"abc",` + at + `}`,
	} {
		require.Error(t, s.Validate(document(t, bad)), bad)
	}
}

// Every field of Event is in the schema and in the documentation.
func TestSchemaAndDocumentationAreComplete(t *testing.T) {
	text, err := os.ReadFile("events.schema.json")
	require.NoError(t, err)
	doc, err := os.ReadFile("../docs/events.md")
	require.NoError(t, err)
	for f := range reflect.TypeFor[Event]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		require.Contains(t, string(text), `"`+name+`"`, "events.schema.json lacks %s", name)
		require.Contains(t, string(doc), "`"+name+"`", "docs/events.md lacks %s", name)
	}
}

func TestWhatIsWrittenFits(t *testing.T) {
	s := schema(t)
	for _, e := range []Event{
		{Event: EventStart, Steps: 3, Order: "tree", Parameters: 5},
		{Event: EventStep, Step: 1, Loss: Finite(1), GradNorm: Finite(2), LR: Finite(0), StepMillis: 2, ImagesPerSecond: 3, WorldSize: 1, Generation: 1},
		{
			Event: EventStep, Step: 2, WorldSize: 2, Generation: 1, AGR: Finite(0.9), LossLow: Finite(1), LossHigh: Finite(0), UpdateNorm: Finite(1), ParamNorm: Finite(3),
			EMADistance: Finite(0), Data: []float64{0, 1}, Compute: []float64{2, 3}, Wait: []float64{1, 0}, RSS: []uint64{1 << 40, 0},
		},
		{Event: EventSkip, Step: 2, InARow: 1, Chunks: []int{0}, Draws: []int64{5}, WorldSize: 1, Generation: 1},
		{Event: EventGeneration, Generation: 2, WorldSize: 1, Spares: 1, Members: []string{"n/0", "m/0"}, Reason: "lost"},
		{Event: EventCheckpoint, Step: 2, Path: "p"},
		{Event: EventSample, Step: 2, Path: "p"},
		{Event: EventEval, Step: 2, HeldOutLoss: Finite(0.1), HeldOutStdErr: Finite(0), Images: 297, Weights: "ema"},
		{Event: EventStop, Step: 2},
		{Event: EventFinish, Step: 3, Steps: 3, ModelDigest: strings.Repeat("0f", 32)},
	} {
		stamp(&e)
		b, err := json.Marshal(e)
		require.NoError(t, err)
		require.NoError(t, s.Validate(document(t, string(b))), string(b))
	}
}
