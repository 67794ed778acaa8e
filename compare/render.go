package compare

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"html/template"
	"strconv"
	"strings"
)

// markdown renders a report.
func markdown(title string, sections []section) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", title)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n", s.title)
		for _, part := range s.parts {
			b.WriteByte('\n')
			switch part := part.(type) {
			case string:
				b.WriteString(part + "\n")
			case figure:
				fmt.Fprintf(&b, "![%s](%s)\n", part.caption, part.file)
			case table:
				markdownTable(&b, part)
			}
		}
	}
	return b.Bytes()
}

func markdownTable(b *bytes.Buffer, t table) {
	for i, row := range t.rows {
		for _, cell := range row {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
		if i > 0 {
			continue
		}
		for j := range row {
			if t.numbers && j > 0 {
				b.WriteString("|--:")
			} else {
				b.WriteString("|---")
			}
		}
		b.WriteString("|\n")
	}
}

var page = template.Must(template.New("report").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left; white-space: nowrap; }
.numbers td + td, .numbers th + th { text-align: right; }
figure { margin: 1rem 0; } img { max-width: 100%; image-rendering: pixelated; } figcaption { color: #555; }
</style>
<h1>{{.Title}}</h1>
{{range .Sections}}<h2>{{.Title}}</h2>
{{range .Parts}}{{if .Text}}<p>{{.Text}}</p>
{{else if .File}}<figure><img src="{{.File}}" alt="{{.Caption}}"><figcaption>{{.Caption}}</figcaption></figure>
{{else}}<table{{if .Numbers}} class="numbers"{{end}}>
{{range $i, $row := .Rows}}<tr>{{range $row}}{{if $i}}<td>{{.}}</td>{{else}}<th>{{.}}</th>{{end}}{{end}}</tr>
{{end}}</table>
{{end}}{{end}}{{end}}</html>
`))

type htmlSection struct {
	Title string
	Parts []htmlPart
}

type htmlPart struct {
	Text, File, Caption string
	Numbers             bool
	Rows                [][]string
}

// html renders a report as one page; figures are files beside it.
func html(title string, sections []section) ([]byte, error) {
	list := make([]htmlSection, len(sections))
	for i, s := range sections {
		list[i].Title = s.title
		for _, part := range s.parts {
			switch part := part.(type) {
			case string:
				list[i].Parts = append(list[i].Parts, htmlPart{Text: part})
			case figure:
				list[i].Parts = append(list[i].Parts, htmlPart{File: part.file, Caption: part.caption})
			case table:
				list[i].Parts = append(list[i].Parts, htmlPart{Numbers: part.numbers, Rows: part.rows})
			}
		}
	}
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{"Title": title, "Sections": list})
	return b.Bytes(), err
}

// csvFile is every number, one a line.
func (r *Results) csvFile() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"method", "seed", "step", "weights", "metric", "value", "deviation", "eval_id", "weights_digest"}}
	for _, p := range r.Points {
		for _, name := range metricNames(p.Record.Metrics) {
			m := p.Record.Metrics[name]
			deviation := ""
			if m.Deviation != nil {
				deviation = strconv.FormatFloat(*m.Deviation, 'g', -1, 64)
			}
			rows = append(rows, []string{
				p.Method, fmt.Sprint(p.Seed), fmt.Sprint(p.Step), p.Weights, name, strconv.FormatFloat(m.Value, 'g', -1, 64), deviation,
				p.Record.ID, p.Record.WeightsDigest,
			})
		}
	}
	err := w.WriteAll(rows)
	return b.Bytes(), err
}
