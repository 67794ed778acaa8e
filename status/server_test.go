package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/metrics"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const token = "0123456789abcdef0123456789abcdef"

// example is a run's directory with what a short run leaves.
func example(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l := metrics.New(filepath.Join(dir, "events.jsonl"))
	for _, e := range []metrics.Event{
		{Event: metrics.EventGeneration, Generation: 1, WorldSize: 2, Members: []string{"n/0", "n/1"}, Reason: "2 workers registered"},
		{Event: metrics.EventStart, Steps: 40},
		{Event: metrics.EventStep, Step: 10, Loss: metrics.Finite(0.5), LR: metrics.Finite(0.001), GradNorm: metrics.Finite(2), ImagesPerSecond: 100, StepMillis: 320, WorldSize: 2, Generation: 1},
		{Event: metrics.EventSkip, Step: 11, InARow: 1},
		{Event: metrics.EventStep, Step: 20, Loss: metrics.Finite(0.25), LR: metrics.Finite(0.001), GradNorm: metrics.Finite(1), ImagesPerSecond: 100, StepMillis: 320, WorldSize: 2, Generation: 1},
		{Event: metrics.EventCheckpoint, Step: 20, Path: filepath.Join(dir, "checkpoints", "step-20")},
	} {
		require.NoError(t, l.Write(e))
	}
	require.NoError(t, l.Close())
	for name, text := range map[string]string{
		"samples/step-20.png": "png", "samples/notes.txt": "secret", "logs/agent.log": "one\ntwo cuda\nthree\n",
		"config.yaml": "seed: 1\n", "secret": "not yours",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func live(context.Context) (cluster.Status, error) {
	member := cluster.Member{ID: "a", Node: "n", PID: 7, Host: "h"}
	return cluster.Status{
		State: cluster.StateRunning, Step: 21, TotalSteps: 40, Loss: 0.2, ImagesPerSecond: 64, MaxRestarts: 5, Restarts: 1,
		Generation: cluster.Generation{Number: 1, Members: []cluster.Member{member}},
		Workers:    []cluster.WorkerStatus{{Member: member, Connected: true, Report: cluster.Report{Step: 21, Phase: cluster.PhaseForward}}},
	}, nil
}

// serve starts a server and returns its address.
func serve(t *testing.T, cfg Config) string {
	t.Helper()
	_, base := serving(t, cfg)
	return base
}

func serving(t *testing.T, cfg Config) (s *Server, base string) {
	t.Helper()
	if cfg.Bind == "" {
		cfg.Bind = "127.0.0.1:0"
	}
	cfg.Token = token
	s, err := Listen(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s, "http://" + s.Addr()
}

func ask(t *testing.T, method, url string, change func(q *http.Request)) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	if change != nil {
		change(q)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	c := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := c.Do(q)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(b)
}

func bearer(q *http.Request) { q.Header.Set("Authorization", "Bearer "+token) }

func TestWhoMayLook(t *testing.T) {
	base := serve(t, Config{Runs: One(NewRun("r", example(t)))})
	for _, c := range []struct {
		name   string
		path   string
		change func(q *http.Request)
		want   int
	}{
		{"no token", "/", nil, http.StatusUnauthorized},
		{"no token, API", "/api/runs", nil, http.StatusUnauthorized},
		{"no token, metrics", "/metrics", nil, http.StatusUnauthorized},
		{"wrong token", "/?token=wrong", nil, http.StatusUnauthorized},
		{"wrong bearer", "/", func(q *http.Request) { q.Header.Set("Authorization", "Bearer x") }, http.StatusUnauthorized},
		{"token in the address", "/?token=" + token, nil, http.StatusSeeOther},
		{"bearer", "/", bearer, http.StatusOK},
		{"cookie", "/", func(q *http.Request) { q.AddCookie(&http.Cookie{Name: cookie, Value: token}) }, http.StatusOK},
		{"another name for this address", "/", func(q *http.Request) { bearer(q); q.Host = "evil.example" }, http.StatusMisdirectedRequest},
		{"localhost", "/", func(q *http.Request) { bearer(q); q.Host = "localhost:80" }, http.StatusOK},
		{"IPv6 loopback", "/", func(q *http.Request) { bearer(q); q.Host = "[::1]:80" }, http.StatusOK},
		{"probes need none", "/healthz", nil, http.StatusOK},
	} {
		code, _ := ask(t, http.MethodGet, base+c.path, c.change)
		require.Equal(t, c.want, code, c.name)
	}
}

func TestBeyondLoopbackNeedsTLS(t *testing.T) {
	_, err := Listen(Config{Bind: "0.0.0.0:0", Token: token, Runs: One(NewRun("r", t.TempDir()))})
	require.ErrorIs(t, err, ErrNotLoopback)
	_, err = Listen(Config{Bind: "127.0.0.1:0", Runs: One(NewRun("r", t.TempDir()))})
	require.Error(t, err, "without a token")
}

func TestWhoMayChange(t *testing.T) {
	var stops atomic.Int32
	r := NewRun("r", example(t))
	r.Stop = func(context.Context) error { stops.Add(1); return nil }
	base := serve(t, Config{Runs: One(r)})
	withCookie := func(q *http.Request) { q.AddCookie(&http.Cookie{Name: cookie, Value: token}) }

	code, _ := ask(t, http.MethodPost, base+"/api/runs/r/stop", withCookie)
	require.Equal(t, http.StatusForbidden, code, "a cookie alone may be another page's request")
	code, _ = ask(t, http.MethodPost, base+"/api/runs/r/stop?token="+token, nil)
	require.Equal(t, http.StatusForbidden, code, "nor a token in the address")
	require.Zero(t, stops.Load())

	_, page := ask(t, http.MethodGet, base+"/", withCookie)
	_, rest, ok := strings.Cut(page, `name="csrf" content="`)
	require.True(t, ok)
	csrf, _, _ := strings.Cut(rest, `"`)
	code, _ = ask(t, http.MethodPost, base+"/api/runs/r/stop", func(q *http.Request) { withCookie(q); q.Header.Set("X-Csrf-Token", csrf) })
	require.Equal(t, http.StatusOK, code)
	code, _ = ask(t, http.MethodPost, base+"/api/runs/r/stop", bearer)
	require.Equal(t, http.StatusOK, code)
	require.EqualValues(t, 2, stops.Load())
	code, _ = ask(t, http.MethodPost, base+"/api/runs/r/checkpoint", bearer)
	require.Equal(t, http.StatusNotFound, code, "what is not offered is not there")
}

func TestNothingButTheRunIsServed(t *testing.T) {
	base := serve(t, Config{Runs: One(NewRun("r", example(t)))})
	for _, path := range []string{
		"/api/runs/none/status", "/api/runs/r/samples/notes.txt", "/api/runs/r/samples/..%2fsecret",
		"/api/runs/r/logs/..%2fsecret", "/api/runs/r/logs/other.log", "/static/page.html", "/static/../secret", "/secret",
	} {
		code, body := ask(t, http.MethodGet, base+path, bearer)
		require.NotEqual(t, http.StatusOK, code, path)
		require.NotContains(t, body, "not yours", path)
	}
	code, body := ask(t, http.MethodGet, base+"/api/runs/r/samples/step-20.png", bearer)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "png", body)
	_, body = ask(t, http.MethodGet, base+"/api/runs/r/logs/agent.log?filter=CUDA", bearer)
	require.JSONEq(t, `["two cuda"]`, body)
}

func TestPageHasTheNumbersWithoutScript(t *testing.T) {
	r := NewRun("my run", example(t))
	r.Status, r.Batch = live, 32
	base := serve(t, Config{Runs: One(r)})
	_, page := ask(t, http.MethodGet, base+"/", bearer)
	for _, want := range []string{"my run", "21 / 40", "0.2000", "healthy", "forward", "step 20,"} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, page, "https://", "nothing comes from elsewhere")
}

// What a run, a worker or a failure is called is text on the page, never markup.
func TestPageEscapes(t *testing.T) {
	const evil, safe = `"><script>x</script>&`, "&#34;&gt;&lt;script&gt;x&lt;/script&gt;&amp;"
	v := View{
		Run: evil, Detail: evil, State: evil, Digest: evil, Health: evil, Step: 3, TotalSteps: 9, CheckpointStep: 2, CheckpointAge: 5, RestartsLeft: -1, Live: true,
		Workers: []WorkerView{{Name: evil, Phase: evil, Slow: evil, Rank: 1, PID: 77}},
	}
	several := firstView{runs: []View{v, {Run: "other", CheckpointStep: -1}}, current: v, actions: true, csrf: evil}
	page, err := several.html(pageFile)
	require.NoError(t, err)
	require.NotContains(t, page, evil)
	require.Equal(t, strings.Count(pageFile, "<script"), strings.Count(string(page), "<script"))
	for _, want := range []string{
		"<title>" + safe + " ·", `<body data-run="` + safe, "<option selected>" + safe, "<option>other</option>", `content="` + safe,
		`href="/?run=%22%3E%3Cscript%3Ex%3C%2Fscript%3E%26"`, "<td>77</td>", "3 / 9", "no limit", "step 2, 5s ago", `id="stop"`, `id="runs"`,
	} {
		require.Contains(t, page, want)
	}
	page, err = (&firstView{current: View{CheckpointStep: -1}}).html(pageFile)
	require.NoError(t, err)
	for _, want := range []string{"<title>no run ·", `class="name"></p>`, `id="n-checkpoint">none<`, `id="n-loss">–<`, `id="detail" class="detail" hidden>`} {
		require.Contains(t, page, want)
	}
	for _, not := range []string{`id="stop"`, `id="runs"`, "{{"} {
		require.NotContains(t, page, not)
	}
}

func TestView(t *testing.T) {
	r := NewRun("r", example(t))
	v, err := r.View(t.Context())
	require.NoError(t, err)
	require.Equal(t, Healthy, v.Health)
	require.EqualValues(t, 20, v.Step)
	require.EqualValues(t, 20, v.CheckpointStep)
	require.False(t, v.Live)

	r.Status, r.Batch = live, 32
	v, err = r.View(t.Context())
	require.NoError(t, err)
	require.True(t, v.Live)
	require.EqualValues(t, 21, v.Step)
	require.Equal(t, 4, v.RestartsLeft)
	require.InDelta(t, 19*32/64.0, v.ETASeconds, 1e-9)

	r.Status = func(context.Context) (cluster.Status, error) { return cluster.Status{}, errors.New("gone") }
	v, err = r.View(t.Context())
	require.NoError(t, err)
	require.Equal(t, Waiting, v.Health)
	require.Contains(t, v.Detail, "gone")
}

func TestHealth(t *testing.T) {
	worker := func(phase string, still time.Duration) cluster.WorkerStatus {
		return cluster.WorkerStatus{Member: cluster.Member{Node: "n", Slot: len(phase)}, Report: cluster.Report{Phase: phase}, ProgressAgo: still, Connected: true}
	}
	for name, c := range map[string]struct {
		state   cluster.State
		workers []cluster.WorkerStatus
		want    Health
		detail  string
	}{
		"trains":              {cluster.StateRunning, []cluster.WorkerStatus{worker("forward", time.Second)}, Healthy, ""},
		"forms":               {cluster.StateForming, nil, Waiting, ""},
		"recovers":            {cluster.StateRecovering, nil, Waiting, ""},
		"over":                {cluster.StateOver, nil, Over, ""},
		"one is slow":         {cluster.StateRunning, []cluster.WorkerStatus{worker("forward", time.Hour), worker("all_reduce", time.Second)}, Healthy, ""},
		"nobody moves":        {cluster.StateRunning, []cluster.WorkerStatus{worker("all_reduce", time.Hour), worker("forward", 2*time.Minute)}, Stuck, "rank 0 (n/7): in forward"},
		"all wait for others": {cluster.StateRunning, []cluster.WorkerStatus{worker("barrier", time.Hour)}, Stuck, "wait for one another"},
	} {
		v := FromCluster("r", cluster.Status{State: c.state, Workers: c.workers}, 0)
		require.Equal(t, c.want, v.Health, name)
		require.Contains(t, v.Detail, c.detail, name)
		require.NotPanics(t, func() { _ = v.Text() })
	}
	codes := map[int]bool{}
	for _, h := range []Health{Healthy, Waiting, Stuck, Over} {
		codes[h.ExitCode()] = true
	}
	require.Len(t, codes, 4, "each health has a code of its own")
}

func TestHealthFromFiles(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration, e metrics.Event) metrics.Event {
		e.Time = now.Add(-ago).UTC().Format("2006-01-02T15:04:05.000Z07:00")
		return e
	}
	start := at(time.Hour, metrics.Event{Event: metrics.EventStart, Steps: 10})
	require.Equal(t, Waiting, fromEvents("r", nil, now).Health)
	require.Equal(t, Healthy, fromEvents("r", []metrics.Event{start, at(time.Second, metrics.Event{Event: metrics.EventStep, Step: 1})}, now).Health)
	require.Equal(t, Stuck, fromEvents("r", []metrics.Event{start}, now).Health)
	over := fromEvents("r", []metrics.Event{start, at(time.Hour, metrics.Event{Event: metrics.EventFinish, Step: 10, ModelDigest: "abc"})}, now)
	require.Equal(t, Over, over.Health)
	require.Equal(t, "abc", over.Digest)
	again := fromEvents("r", []metrics.Event{start, at(time.Hour, metrics.Event{Event: metrics.EventStop, Step: 5}), at(time.Second, metrics.Event{Event: metrics.EventStart, Step: 5, Steps: 10})}, now)
	require.Equal(t, Healthy, again.Health, "a stopped run that was resumed")
}

func TestSeries(t *testing.T) {
	events := []metrics.Event{{Event: metrics.EventStart}}
	for i := int64(1); i <= 1000; i++ {
		events = append(events, metrics.Event{Event: metrics.EventStep, Step: i, Loss: metrics.Finite(2), ImagesPerSecond: 10})
	}
	events = append(events, metrics.Event{Event: metrics.EventStep, Step: 1001}, metrics.Event{Event: metrics.EventFinish, Step: 1001})
	for step := int64(205); step <= 1001; step += 199 { // 205, 404, 603, 802, 1001
		events = append(events, metrics.Event{Event: metrics.EventEval, Step: step, HeldOutLoss: metrics.Finite(float64(step))})
	}
	s := newSeries(events, 100)
	var held []float64
	for i, v := range s.HeldOut {
		if v != nil {
			held = append(held, *v)
			require.LessOrEqual(t, int64(*v), s.Step[i])
			require.Greater(t, int64(*v), s.Step[i-1])
		}
	}
	require.Equal(t, []float64{205, 404, 603, 802, 1001}, held, "each in the row of its step")
	require.LessOrEqual(t, len(s.Step), 100)
	require.EqualValues(t, 1001, s.Step[len(s.Step)-1], "the last step is shown")
	require.Equal(t, 2.0, *s.Columns["loss"][0])
	require.InDelta(t, 2, *s.Smooth[0], 1e-12, "the smoothed loss begins at the first loss")
	require.Len(t, s.Marks, 2)
	whole := newSeries(events, 0)
	require.Len(t, whole.Step, 1001)
	require.Nil(t, whole.Columns["loss"][1000], "a loss that is not there is null")
	b, err := json.Marshal(whole)
	require.NoError(t, err)
	require.Contains(t, string(b), "null")
}

// A member beyond those that compute is a spare; who is in no generation waits.
func TestSparesAreShown(t *testing.T) {
	ids := []cluster.Member{{ID: "a", Node: "n0"}, {ID: "b", Node: "n1"}, {ID: "c", Node: "n2"}}
	s := cluster.Status{State: cluster.StateRunning, Generation: cluster.Generation{Number: 3, Members: ids[:2], Spares: 1}}
	for i, m := range ids {
		s.Workers = append(s.Workers, cluster.WorkerStatus{Member: m, Rank: []int{0, 1, -1}[i], Connected: true})
	}
	v := FromCluster("r", s, 0)
	require.Equal(t, []bool{false, true, false}, []bool{v.Workers[0].Spare, v.Workers[1].Spare, v.Workers[2].Spare})
	require.Regexp(t, `(?m)^0 +n0/0`, v.Text())
	require.Regexp(t, `(?m)^spare +n1/0`, v.Text())
	require.Regexp(t, `(?m)^waits +n2/0`, v.Text())
	e := &exporter{}
	states := map[string]float64{}
	e.workers(v, func(d *prometheus.Desc, x float64, labels ...string) {
		if d == descWorkers {
			states[labels[0]] = x
		}
	})
	require.Equal(t, map[string]float64{"training": 1, "spare": 1, "waiting": 1, "disconnected": 0}, states)
}

func TestStragglers(t *testing.T) {
	rank := func(r, chunks int, ms float64) cluster.WorkerStatus {
		return cluster.WorkerStatus{Rank: r, Report: cluster.Report{Chunks: chunks, ComputeMillis: ms, DataMillis: ms * 0.9}}
	}
	v := FromCluster("r", cluster.Status{State: cluster.StateRunning, Workers: []cluster.WorkerStatus{
		rank(0, 2, 200), rank(1, 1, 100), rank(2, 1, 300), rank(3, 0, 0), rank(-1, 1, 900),
	}}, 0)
	var got []float64
	for _, w := range v.Workers {
		got = append(got, w.Ratio)
	}
	require.Equal(t, []float64{1, 1, 3, 0, 0}, got, "a rank with two chunks is not slow, a spare is none")
	require.Contains(t, v.Text(), "slow: waiting for data, 270 of 300 ms a step")
}

func TestWhySlow(t *testing.T) {
	w := WorkerView{Compute: 100, Data: 10}
	require.Equal(t, "computing", w.because())
	w.Usage = usageView(cluster.Usage{Throttled: 0.5, Runnable: 1.5, Preempted: 80, Steal: 0.2, MajorFaults: 44, Retransmits: 12})
	require.Equal(t, "held back by its cgroup's CPU limit in 50 % of the periods; other programs have its CPUs: its threads waited 1.5 s a second, 80 preemptions; "+
		"the hypervisor took 20 % of the host's CPU time; 44 page faults a second went to a disk; its host's network sent 12 TCP segments a second again", w.because())
}

// People hear once of a worker that stays slow, and once that it recovered; a short spell,
// and a slow worker that was replaced, they do not hear of.
func TestStragglersAreToldOnce(t *testing.T) {
	var s Stragglers
	at := time.Unix(0, 0)
	see := func(step int64, seconds int, ratio float64) []string {
		w := WorkerView{Name: "n/1", Rank: 1, Step: step, Ratio: ratio, Compute: 10, Usage: UsageView{Throttled: 0.9}}
		return s.See(View{Workers: []WorkerView{{Name: "n/0", Rank: 0, Ratio: 1}, w}}, at.Add(time.Duration(seconds)*time.Second))
	}
	require.Empty(t, see(0, 0, 3))
	require.Empty(t, see(100, 9, 3), "not for long enough")
	require.Empty(t, see(110, 10, 1.1), "a short spell")
	require.Empty(t, see(120, 20, 2))
	require.Empty(t, see(125, 40, 2), "too few steps")
	require.Equal(t, []string{"rank 1 (n/1) takes 2.0 times as long for a chunk as the median: held back by its cgroup's CPU limit in 90 % of the periods; all ranks wait for it"}, see(140, 41, 2))
	require.Empty(t, see(900, 500, 2))
	require.Empty(t, see(901, 501, 1.4), "between the two ratios nothing changes")
	require.Equal(t, []string{"rank 1 (n/1) is not slow any more"}, see(902, 502, 1))
	require.Empty(t, see(1000, 600, 2))
	require.Empty(t, s.See(View{}, at.Add(time.Hour)), "it is gone")
	require.Empty(t, see(2000, 7200, 2), "its replacement begins from scratch")
}

// A browser that does not read is dropped; others get every message.
func TestSlowBrowserIsDropped(t *testing.T) {
	h := newHub()
	r := NewRun("r", example(t))
	t.Cleanup(h.close)
	slow, quick := h.join(r), h.join(r)
	got := 0
	h.mu.Lock()
	top := h.topics["r"]
	h.mu.Unlock()
	for range backlog + 2 {
		h.send(top, []byte("news"))
		<-quick
		got++
	}
	require.Equal(t, backlog+2, got)
	n := 0
	for range slow { // ends: it was closed
		n++
	}
	require.GreaterOrEqual(t, n, backlog-1)
	h.leave(r, slow)
	h.leave(r, quick)
	h.mu.Lock()
	require.Empty(t, h.topics, "a run that nobody watches costs nothing")
	h.mu.Unlock()
}

func TestStream(t *testing.T) {
	r := NewRun("r", example(t))
	r.Status = live
	base := serve(t, Config{Runs: One(r)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/runs/r/stream", http.NoBody)
	require.NoError(t, err)
	bearer(q)
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	require.NoError(t, err)
	defer answer.Body.Close()
	b := make([]byte, 1<<16)
	n, err := answer.Body.Read(b)
	require.NoError(t, err)
	text, ok := strings.CutPrefix(string(b[:n]), "data: ")
	require.True(t, ok)
	var m message
	require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(text)), &m))
	require.EqualValues(t, 21, m.View.Step)
	require.Equal(t, 6, m.Events)
}

func TestClientAndEndpoint(t *testing.T) {
	dir := example(t)
	r := NewRun("r", dir)
	r.Status = live
	base := serve(t, Config{Runs: One(r)})
	remove, err := Publish(dir, "no/de", Endpoint{URL: base, Token: token, Run: "r"})
	require.NoError(t, err)
	info, err := os.Stat(endpointPath(dir, "no/de"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "the token is the owner's")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dashboard-torn.json"), []byte("{"), 0o600))
	all := Endpoints(dir)
	require.Len(t, all, 1)
	v, err := Client{URL: all[0].URL, Token: all[0].Token}.View(t.Context(), "")
	require.NoError(t, err)
	require.EqualValues(t, 21, v.Step)
	_, err = Client{URL: base, Token: "wrong"}.View(t.Context(), "")
	require.ErrorIs(t, err, ErrToken)
	require.NoError(t, remove())
	require.Empty(t, Endpoints(dir))
}

func TestMetrics(t *testing.T) {
	r := NewRun("r", example(t))
	r.Status, r.Batch = live, 32
	h := Metrics(r)
	scrape := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		require.Equal(t, http.StatusOK, w.Code)
		return w.Body.String()
	}
	for range 2 { // counting twice the same events counts them once
		text := scrape()
		for _, want := range []string{
			"agrdist_step 21", "agrdist_images_total 672", "agrdist_loss 0.2", "agrdist_step_duration_seconds_count 2",
			"agrdist_steps_skipped_total 1", `agrdist_workers{state="training"} 1`, `agrdist_health{health="healthy"} 1`,
			"agrdist_checkpoint_step 20", "agrdist_restarts_left 4", "go_goroutines", "process_cpu_seconds_total",
		} {
			require.Contains(t, text, want)
		}
	}
}

func TestLibrary(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "sweep/b"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "events.jsonl"), nil, 0o600))
	}
	lib := NewLibrary(dir, nil)
	first, err := lib.Runs()
	require.NoError(t, err)
	require.Len(t, first, 2)
	second, err := lib.Runs()
	require.NoError(t, err)
	require.ElementsMatch(t, first, second, "a run keeps what was read of it")
	require.NoError(t, lib.Close())

	base := serve(t, Config{Runs: lib.Runs})
	code, _ := ask(t, http.MethodGet, base+"/api/runs/sweep%2Fb/status", bearer)
	require.Equal(t, http.StatusOK, code, "a run in a folder of its own")
	t.Cleanup(func() { require.NoError(t, lib.Close()) })

	_, err = NewLibrary(filepath.Join(dir, "none"), nil).Runs()
	require.ErrorContains(t, err, "does not exist")
}
