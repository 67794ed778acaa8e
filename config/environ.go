package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// others are the variables of agrdist that are not settings of a run.
var others = []string{
	"AGRDIST_CPU",                                                                                                            // kernels
	"AGRDIST_CUDA_PATH", "AGRDIST_LIBCUDA", "AGRDIST_LIBNVRTC", "AGRDIST_LIBCUBLASLT", "AGRDIST_LIBCUDNN", "AGRDIST_LIBNCCL", // NVIDIA's libraries
	"AGRDIST_CUDA_HEADERS", "AGRDIST_CUDA_INCLUDE", // builds
	"AGRDIST_DASHBOARD_TOKEN", // status page
	"AGRDIST_WORKER_SPEC",     // what an agent tells a worker
}

// inner matches variables of tests; service those that Kubernetes and Docker set
// for a service called agrdist or agrdist-something.
var (
	inner   = regexp.MustCompile(`^AGRDIST_(FAKE|TEST)_|_TEST_`)
	service = regexp.MustCompile(`^AGRDIST_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	linked  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// environment returns the settings of the environment and an error for each
// variable that begins as ours do and is none of them: a wrong name would
// otherwise be ignored without a word.
func environment(environ []string, keys []Key) (settings map[string]string, faults []*Error) {
	settings = map[string]string{}
	env := map[string]bool{}
	for _, k := range keys {
		env[k.Env] = true
	}
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		upper := strings.ToUpper(name)
		switch {
		case env[name]:
			settings[name] = text
		case !strings.HasPrefix(upper, "AGRDIST_"), slices.Contains(others, name):
		case inner.MatchString(name), service.MatchString(name), strings.HasSuffix(name, "_PORT") && linked.MatchString(text):
		default:
			faults = append(faults, &Error{name, unknownVariable(name, keys)})
		}
	}
	slices.SortFunc(faults, func(a, b *Error) int { return strings.Compare(a.Source, b.Source) })
	return settings, faults
}

func unknownVariable(name string, keys []Key) error {
	best, distance := "", 1<<30
	candidates := slices.Clone(others)
	for _, k := range keys {
		candidates = append(candidates, k.Env)
	}
	upper := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", "__", "_").Replace(name))
	for _, c := range candidates {
		if d := levenshtein.Distance(upper, c, nil); d < distance {
			best, distance = c, d
		}
	}
	if distance > 1 {
		word := strings.ToLower(strings.TrimPrefix(upper, "AGRDIST_"))
		for _, k := range keys {
			if last(k.Name) == word {
				return wrongVariable(k.Env, "")
			}
		}
		if f, ok := foreign[word]; ok {
			return wrongVariable(variable(f.key), f.note)
		}
		if _, rest, ok := strings.Cut(word, "_"); ok { // AGRDIST_TRAIN_LEARNING_RATE
			if f, ok := foreign[rest]; ok {
				return wrongVariable(variable(f.key), f.note)
			}
		}
	}
	if distance > len(best)/3 {
		return fmt.Errorf("agrdist has no such variable: unset it (agrdist config print lists the keys; train.steps is %s)", variable("train.steps"))
	}
	return wrongVariable(best, "")
}

func wrongVariable(best, note string) error {
	if note != "" {
		note = " " + note
	}
	return fmt.Errorf("agrdist has no such variable; did you mean %s?%s Otherwise unset it", best, note)
}

// variable is the environment variable of a key.
func variable(key string) string {
	return "AGRDIST_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
