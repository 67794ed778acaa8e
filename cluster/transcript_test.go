package cluster

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata")

// TestTranscripts plays testdata/*.txt. A line that is not indented is an
// input, "TIME COMMAND ARGUMENT...", the indented lines under it are what the
// machine answers. Up to TIME connected workers and agents send heartbeats and
// the machine ticks, each 100 ms. With -rewrite the answers are written again.
//
//	config KEY=VALUE...               first line only; workers=N sets min and max, begin=false MayBegin
//	agent NODE SLOTS [committed=, seen=, then=NUMBER:ID,ID] | agentlost NODE | silent NODE | drain NODE
//	join ID SEAT [KEY=VALUE...]       at=TOPOLOGY, holds=NUMBER:ID,ID, committed=..., gave=... and the keys of report
//	report ID,... KEY=VALUE...        changes the last report of each and sends it
//	mute ID                           no heartbeats from now on, though connected
//	cut ID [closed=true]              stream broke | was closed by the worker's end
//	lost ID | left ID                 lost uncertified | said good-bye
//	exit ID SEAT [code=N] [signal=S] [message=M] [again=true]
//	finish ID gen=N step=N digest=D | stop REASON | tick
//	probed ID NUMBER [error=TEXT]
//	restart                           the coordinator, from its journal
//	forget                            the coordinator, without its journal
//	status
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(t, string(raw))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			require.Empty(t, cmp.Diff(string(raw), got), "run `go test ./cluster -rewrite` if the change is meant")
		})
	}
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type player struct {
	t       *testing.T
	cfg     Config
	m       *Machine
	now     time.Time
	out     strings.Builder
	members map[string]Member
	reports map[string]Report
	order   []string // members that send heartbeats
	agents  []string
}

func play(t *testing.T, script string) string {
	t.Helper()
	p := &player{t: t, cfg: DefaultConfig(), now: epoch, members: map[string]Member{}, reports: map[string]Report{}}
	p.cfg.RunID, p.cfg.ConfigHash, p.cfg.Build = "run", "c0ffee", "v1"
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "  "): // an answer: written again
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&p.out, line)
		default:
			p.input(line, strings.Fields(line))
		}
	}
	return p.out.String()
}

func (p *player) input(line string, f []string) {
	if f[0] == "config" {
		fmt.Fprintln(&p.out, line)
		p.config(f[1:])
		return
	}
	if p.m == nil {
		var err error
		p.m, err = New(p.cfg, epoch)
		require.NoError(p.t, err)
	}
	at, err := time.ParseDuration(f[0])
	require.NoError(p.t, err, f)
	p.advance(epoch.Add(at))
	fmt.Fprintln(&p.out, line)
	args, keys := split(f[2:])
	switch f[1] {
	case "agent":
		p.agents = append(p.agents, args[0])
		e := AgentJoined{Node: args[0], Slots: p.int(args[1]), Committed: p.generation(keys["committed"])}
		for _, key := range []string{"seen", "then"} {
			if keys[key] != "" {
				e.Seen = append(e.Seen, p.generation(keys[key]))
			}
		}
		p.step(e)
	case "agentlost":
		p.agents = without(p.agents, args[0])
		p.step(AgentLost{Node: args[0]})
	case "join":
		p.join(args[0], args[1], keys)
	case "report":
		var events []Event
		for id := range strings.SplitSeq(args[0], ",") {
			p.reports[id] = p.report(p.reports[id], keys)
			events = append(events, Reported{p.reports[id]})
		}
		p.step(events...)
	case "cut":
		p.order = without(p.order, args[0])
		p.step(StreamBroken{ID: MemberID(args[0]), Closed: keys["closed"] == "true"})
	case "lost", "left":
		p.order = without(p.order, args[0])
		p.step(WorkerLost{ID: MemberID(args[0]), Certified: f[1] == "left", Why: f[1]})
	case "exit":
		p.order = without(p.order, args[0])
		node, slot := p.seat(args[1])
		e := Exit{Member: MemberID(args[0]), Node: node, Slot: slot, Signal: keys["signal"], Message: keys["message"]}
		e.Again = keys["again"] == "true"
		if keys["code"] != "" {
			e.Code = p.int(keys["code"])
		}
		p.step(WorkerExited{Exit: e})
	case "finish":
		p.step(Finished{Finish: Finish{
			Member: MemberID(args[0]), Generation: uint64(p.int(keys["gen"])), Step: int64(p.int(keys["step"])), Digest: keys["digest"],
		}})
	case "drain":
		p.step(AgentDraining{args[0]})
	case "silent":
		p.step(NodeSilent{args[0]})
	case "probed":
		p.step(Probed{MemberID(args[0]), uint64(p.int(args[1])), keys["error"]})
	case "stop":
		p.step(StopRequested{strings.Join(args, " ")})
	case "tick":
		p.step(Tick{})
	case "mute":
		p.order = without(p.order, args[0])
	case "restart", "forget":
		p.restart(f[1] == "restart")
	case "status":
		p.status()
	default:
		p.t.Fatalf("unknown command %q", f[1])
	}
}

func (p *player) config(f []string) {
	_, keys := split(f)
	for k, v := range keys {
		switch k {
		case "workers":
			p.cfg.MinWorkers, p.cfg.MaxWorkers = p.int(v), p.int(v)
		case "min":
			p.cfg.MinWorkers = p.int(v)
		case "nodes":
			p.cfg.MinNodes = p.int(v)
		case "spares":
			p.cfg.MaxSpares = p.int(v)
		case "max":
			p.cfg.MaxWorkers = p.int(v)
		case "begin":
			p.cfg.MayBegin = v == "true"
		case "minority":
			p.cfg.AllowMinority = v == "true"
		case "restarts":
			p.cfg.MaxRestarts = p.int(v)
		case "wait_timeout":
			d, err := time.ParseDuration(v)
			require.NoError(p.t, err)
			p.cfg.WaitTimeout = d
		default:
			p.t.Fatalf("unknown setting %q", k)
		}
	}
}

func (p *player) join(id, at string, keys map[string]string) {
	node, slot := p.seat(at)
	m := Member{ID: MemberID(id), Node: node, Slot: slot, DataAddr: "addr-" + id, RunID: "run", ConfigHash: "c0ffee", Build: "v1"}
	for k, v := range keys {
		switch k {
		case "run":
			m.RunID = v
		case "hash":
			m.ConfigHash = v
		case "build":
			m.Build = v
		case "at":
			m.Topology = v
		}
	}
	p.members[id] = m
	holds := p.generation(keys["holds"])
	r, again := p.reports[id]
	if !again {
		r = Report{Member: m.ID, Step: -1}
	}
	p.reports[id] = p.report(r, keys)
	p.order = append(without(p.order, id), id)
	var gave []Generation
	if keys["gave"] != "" {
		gave = append(gave, p.generation(keys["gave"]))
	}
	p.step(WorkerJoined{Member: m, Holds: holds, Committed: p.generation(keys["committed"]), Pledged: gave, Report: p.reports[id]})
}

// generation reads NUMBER:ID,ID.
func (p *player) generation(text string) (g Generation) {
	if number, ids, ok := strings.Cut(text, ":"); ok {
		g.Number = uint64(p.int(number))
		for id := range strings.SplitSeq(ids, ",") {
			g.Members = append(g.Members, p.members[id])
		}
	}
	return g
}

func (p *player) report(r Report, keys map[string]string) Report {
	for k, v := range keys {
		switch k {
		case "gen":
			r.Generation = uint64(p.int(v))
		case "step":
			r.Step, r.HasState = int64(p.int(v)), true
		case "commit":
			r.CommitGeneration = uint64(p.int(v))
		case "phase":
			r.Phase = v
		case "bucket":
			r.Bucket = p.int(v)
		case "stopping":
			r.Stopping = v == "true"
		case "left":
			r.Left = v == "true"
		case "pledged":
			r.Pledged = nil
			for n := range strings.SplitSeq(v, ",") {
				r.Pledged = append(r.Pledged, uint64(p.int(n)))
			}
		case "broken":
			r.Broken = v
		case "blame":
			r.Blame = MemberID(v)
		case "reset":
			r.Reset = v == "true"
		case "on":
			r.SavedOn = v
		}
	}
	return r
}

func (p *player) advance(to time.Time) {
	require.False(p.t, to.Before(p.now), "time goes back to %s", to.Sub(epoch))
	for p.now.Before(to) {
		p.now = p.now.Add(100 * time.Millisecond)
		if p.now.After(to) {
			p.now = to
		}
		events := []Event{Tick{}}
		for _, n := range p.agents {
			events = append(events, AgentHeard{n})
		}
		for _, id := range p.order {
			events = append(events, Reported{p.reports[id]})
		}
		p.step(events...)
	}
}

func (p *player) restart(journal bool) {
	j := p.m.Journal()
	var err error
	if journal {
		p.m, err = Restore(p.cfg, j, p.now)
	} else {
		p.m, err = New(p.cfg, p.now)
	}
	require.NoError(p.t, err)
	p.order, p.agents = nil, nil
}

func (p *player) status() {
	s := p.m.Status(p.now)
	fmt.Fprintf(&p.out, "  %s: generation %d, step %d of generation %d, %d restarts; %s\n",
		s.State, s.Generation.Number, s.Step, s.CommitGeneration, s.Restarts, s.Detail)
	for _, w := range s.Workers {
		fmt.Fprintf(&p.out, "  rank %d %s %s connected=%t seen %s ago\n", w.Rank, w.Member.ID, w.Member.Seat(), w.Connected, w.SeenAgo)
	}
}

func (p *player) step(events ...Event) {
	for _, a := range p.m.Step(p.now, events...) {
		if f, ok := a.(Form); ok { // what every client does at once
			for _, m := range f.Generation.Members {
				r := p.reports[string(m.ID)]
				r.Generation, r.Left, r.Broken, r.Blame, r.Reset = f.Generation.Number, false, "", "", false
				p.reports[string(m.ID)] = r
			}
		}
		fmt.Fprintf(&p.out, "  %s %s\n", p.now.Sub(epoch), describe(a))
	}
}

func describe(a Action) string {
	switch a := a.(type) {
	case Admit:
		return fmt.Sprintf("admit %s", a.ID)
	case Refuse:
		return fmt.Sprintf("refuse %s: %v", a.ID, a.Err)
	case Tell:
		return fmt.Sprintf("tell %s: %s", a.ID, describe(a.Action))
	case Form:
		ids := make([]string, len(a.Generation.Members))
		for i, m := range a.Generation.Members {
			ids[i] = string(m.ID)
		}
		trains, spares, after := strings.Join(ids[:a.Generation.World()], " "), "", ""
		if a.Generation.Spares > 0 {
			spares = " + " + strings.Join(ids[a.Generation.World():], " ")
		}
		if a.Generation.After > 0 {
			after = fmt.Sprintf(" after %d", a.Generation.After)
		}
		return fmt.Sprintf("form %d [%s%s]%s: %s", a.Generation.Number, trains, spares, after, a.Generation.Reason)
	case Adopt:
		return fmt.Sprintf("adopt %d", a.Generation.Number)
	case Abort:
		after := ""
		if a.AfterStep {
			after = " after its step"
		}
		return fmt.Sprintf("abort %d%s: %s", a.Generation, after, a.Reason)
	case Wait:
		return "wait: " + a.For
	case Kill:
		return fmt.Sprintf("kill %s: %s", a.Member.ID, a.Reason)
	case Drop:
		return fmt.Sprintf("drop %s", a.ID)
	case Probe:
		return fmt.Sprintf("probe %d by %s: %s", a.Number, a.ID, strings.Join(a.Addrs, " "))
	case KeptOut:
		return fmt.Sprintf("keep %s out: %s", a.Node, a.Reason)
	case LetIn:
		return "let in " + a.Node
	case Drained:
		return "drained " + a.Node
	case Judge:
		return fmt.Sprintf("verdict on %s: restart=%t after %s: %s", a.Exit.Member, a.Verdict.Restart, a.Verdict.After, a.Verdict.Reason)
	case Acknowledge:
		return fmt.Sprintf("acknowledge %s: %v", a.ID, a.Err)
	case Stop:
		return "stop: " + a.Reason
	case Over:
		on := ""
		if a.End.SavedOn != "" {
			on = " saved on " + a.End.SavedOn
		}
		return fmt.Sprintf("over: %s, exit code %d, step %d%s: %s", a.End.Outcome, a.End.ExitCode, a.End.Step, on, a.End.Reason)
	}
	return fmt.Sprintf("%T", a)
}

func (p *player) int(s string) int {
	n, err := strconv.Atoi(s)
	require.NoError(p.t, err)
	return n
}

func (p *player) seat(s string) (string, int) {
	node, slot, ok := strings.Cut(s, "/")
	require.True(p.t, ok, s)
	return node, p.int(slot)
}

func split(f []string) (args []string, keys map[string]string) {
	keys = map[string]string{}
	for _, s := range f {
		if k, v, ok := strings.Cut(s, "="); ok {
			keys[k] = strings.ReplaceAll(v, "_", " ")
			if k == "phase" {
				keys[k] = v
			}
		} else {
			args = append(args, s)
		}
	}
	return args, keys
}

func without(list []string, s string) []string {
	var out []string
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}
