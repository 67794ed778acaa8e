package markup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/markup"
)

func TestFormatEscapesAllButMarkup(t *testing.T) {
	type name string
	evil := `"><script>alert('1')</script>&`
	const safe = `&#34;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;`
	require.Equal(t, markup.HTML(`<p title="`+safe+`">`+safe+`, 3 <b>x</b></p>`),
		markup.Format(`<p title="%s">%v, %v %s</p>`, evil, name(evil), 3, markup.Format("<b>%s</b>", "x")))
	require.Equal(t, markup.HTML("%d"), markup.Format("%s", "%d"))
	require.Empty(t, markup.When(false, "<p>%s</p>", 1))
	require.Equal(t, markup.HTML("<p>1</p>"), markup.When(true, "<p>%s</p>", 1))
	require.Equal(t, markup.HTML("<i>&lt;</i><i>b</i>"), markup.Each([]string{"<", "b"}, func(s string) markup.HTML { return markup.Format("<i>%s</i>", s) }))
}

func TestFill(t *testing.T) {
	got, err := markup.Fill("<p>{{a}}</p>{{b}}{{a}}", map[string]markup.HTML{"a": "{{b}}", "b": ""})
	require.NoError(t, err)
	require.Equal(t, markup.HTML("<p>{{b}}</p>{{b}}"), got, "values are not looked at")
	for page, want := range map[string]string{
		"{{a}}{{c}}": `markup: the page names "c", which has no value`,
		"{{a":        `markup: the page names "a", which has no value`,
		"{{b}}":      "markup: the page has no place for a",
	} {
		_, err := markup.Fill(page, map[string]markup.HTML{"a": "1", "b": "2"})
		require.EqualError(t, err, want)
	}
}
