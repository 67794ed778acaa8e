package status

import (
	"fmt"
	"net/url"

	"github.com/agrdist/agrdist/internal/markup"
)

// firstView is what the page shows before any script has run, and without one.
type firstView struct {
	runs    []View
	current View
	actions bool // the run can be stopped from here
	csrf    string
}

// html puts the view into web/page.html.
func (p *firstView) html(page string) (markup.HTML, error) {
	v := &p.current
	values := map[string]markup.HTML{
		"csrf": text(p.csrf), "run": text(v.Run), "title": text(v.Run), "health": text(v.Health), "pick": p.pick(),
		"actions": markup.When(p.actions, `<div class="actions js">
    <button type="button" id="checkpoint">Checkpoint now</button>
    <button type="button" id="stop">Stop and save</button>
  </div>`),
		"detail": text(v.Detail), "no detail": hidden(v.Detail == ""),
		"step":  text(v.Step) + markup.When(v.TotalSteps > 0, " / %v", v.TotalSteps),
		"loss":  known(v.Loss != 0, fixed(v.Loss, 4)),
		"speed": known(v.ImagesPerSecond != 0, fixed(v.ImagesPerSecond, 0)), "eta": known(v.ETASeconds != 0, roundSeconds(v.ETASeconds)),
		"generation": known(v.Generation != 0, v.Generation), "workers": known(len(v.Workers) > 0, len(v.Workers)),
		"restarts": known(v.Live, v.RestartsLeft), "checkpoint": "none",
		"digest": text(v.Digest), "no digest": hidden(v.Digest == ""),
		"runs":    markup.When(len(p.runs) > 1, runsSection, markup.Each(p.runs, runRow)),
		"members": markup.Each(v.Workers, memberRow), "no members": hidden(len(v.Workers) == 0),
	}
	if v.Run == "" {
		values["title"] = "no run"
	}
	if v.Live && v.RestartsLeft < 0 {
		values["restarts"] = "no limit"
	}
	if v.CheckpointStep >= 0 {
		values["checkpoint"] = markup.Format("step %v, %v ago", v.CheckpointStep, roundSeconds(v.CheckpointAge))
	}
	return markup.Fill(page, values)
}

func text(v any) markup.HTML { return markup.Format("%v", v) }

// known is a value, or a dash where it is not known.
func known(yes bool, v any) markup.HTML {
	if !yes {
		return "–"
	}
	return text(v)
}

func fixed(x float64, digits int) string { return fmt.Sprintf("%.*f", digits, x) }

func hidden(yes bool) markup.HTML { return markup.When(yes, " hidden") }

// pick is the choice of a run, or the name of the only one.
func (p *firstView) pick() markup.HTML {
	if len(p.runs) < 2 {
		return markup.Format(`<p class="name">%v</p>`, p.current.Run)
	}
	options := markup.Each(p.runs, func(r View) markup.HTML {
		return markup.Format("<option%v>%v</option>", markup.When(r.Run == p.current.Run, " selected"), r.Run)
	})
	return markup.Format(`<form method="get" class="pick">
    <label for="run">Run</label>
    <select id="run" name="run">%v</select>
    <noscript><button>Show</button></noscript>
  </form>`, options)
}

const runsSection = `<section aria-labelledby="h-runs">
    <h2 id="h-runs">Runs</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Runs"><table id="runs">
      <thead><tr><th scope="col" class="js">Overlay</th><th scope="col">Run</th><th scope="col">State</th><th scope="col">Step</th><th scope="col">Loss</th><th scope="col">Digest</th></tr></thead>
      <tbody>%v</tbody>
    </table></div>
    <div id="keys" class="js" hidden><h3>Settings that differ</h3><div class="scroll" tabindex="0" role="region" aria-label="Settings that differ"><table id="differ"></table></div></div>
  </section>`

func runRow(r View) markup.HTML {
	loss := ""
	if r.Loss != 0 {
		loss = fixed(r.Loss, 4)
	}
	return markup.Format(`<tr><td class="js"><input type="checkbox" class="overlay" value="%v" aria-label="Overlay %v"></td><td><a href="/?run=%v">%v</a></td><td>%v</td><td>%v</td><td>%v</td><td><code>%v</code></td></tr>`,
		r.Run, r.Run, url.QueryEscape(r.Run), r.Run, r.State, r.Step, loss, fmt.Sprintf("%.12s", r.Digest))
}

func memberRow(w WorkerView) markup.HTML {
	cells := []any{
		w.place(), w.Name, w.PID, w.Step, w.Phase, w.Bucket, millis(w.Compute), millis(w.Wait), fixed(w.Ratio, 2), size(w.Usage.RSS),
		roundSeconds(w.Progress), roundSeconds(w.Seen), w.Slow,
	}
	return markup.Format("<tr>%v</tr>", markup.Each(cells, func(v any) markup.HTML { return markup.Format("<td>%v</td>", v) }))
}
