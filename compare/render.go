package compare

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"github.com/agrdist/agrdist/internal/markup"
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

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: left; white-space: nowrap; }
.numbers td + td, .numbers th + th { text-align: right; }
figure { margin: 1rem 0; } img { max-width: 100%; image-rendering: pixelated; } figcaption { color: #555; }
</style>
<h1>{{title}}</h1>
{{sections}}</html>
`

// html renders a report as one page; figures are files beside it.
func html(title string, sections []section) ([]byte, error) {
	body, err := markup.Fill(page, map[string]markup.HTML{
		"title": markup.Format("%s", title),
		"sections": markup.Each(sections, func(s section) markup.HTML {
			return markup.Format("<h2>%s</h2>\n%s", s.title, markup.Each(s.parts, htmlPart))
		}),
	})
	return []byte(body), err
}

func htmlPart(part any) markup.HTML {
	switch part := part.(type) {
	case string:
		return markup.Format("<p>%s</p>\n", part)
	case figure:
		return markup.Format(`<figure><img src="%s" alt="%s"><figcaption>%s</figcaption></figure>`+"\n", part.file, part.caption, part.caption)
	case table:
		return htmlTable(part)
	}
	return ""
}

func htmlTable(t table) markup.HTML {
	var rows markup.HTML
	for i, row := range t.rows {
		cell := "<td>%s</td>"
		if i == 0 {
			cell = "<th>%s</th>"
		}
		rows += markup.Format("<tr>%s</tr>\n", markup.Each(row, func(s string) markup.HTML { return markup.Format(cell, s) }))
	}
	return markup.Format("<table%s>\n%s</table>\n", markup.When(t.numbers, ` class="numbers"`), rows)
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
