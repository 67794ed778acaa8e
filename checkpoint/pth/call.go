package pth

import (
	"fmt"
	"math"
)

// name pushes one of the things that may be named.
func (m *machine) name(op byte) error {
	module, name, err := m.qualified(op)
	if err != nil {
		return err
	}
	switch {
	case module == "collections" && name == "OrderedDict",
		module == "torch._utils" && (name == "_rebuild_tensor_v2" || name == "_rebuild_tensor" || name == "_rebuild_parameter"),
		module == "torch" && elementSize[name] > 0:
		return m.push(global(name))
	}
	return fmt.Errorf("%w: the name %.60q", ErrForbidden, module+"."+name)
}

// qualified is the two parts of a name: two lines, or the two texts on the stack.
func (m *machine) qualified(op byte) (module, name string, err error) {
	if op == 'c' {
		if module, err = m.line(); err == nil {
			name, err = m.line()
		}
		return module, name, err
	}
	parts, err := m.popN(2)
	if err != nil {
		return "", "", err
	}
	module, okM := parts[0].(string)
	name, okN := parts[1].(string)
	if !okM || !okN {
		return "", "", fmt.Errorf("%w: a name that is %s and %s", ErrForbidden, kindOf(parts[0]), kindOf(parts[1]))
	}
	return module, name, nil
}

// call makes a dictionary or a tensor.
func (m *machine) call() error {
	args, err := m.popN(2)
	if err != nil {
		return err
	}
	f, okF := args[0].(global)
	in, okIn := args[1].(tuple)
	if !okF || !okIn {
		return fmt.Errorf("%w: a call of %s", ErrForbidden, kindOf(args[0]))
	}
	switch {
	case f == "OrderedDict" && len(in) == 0:
		return m.push(&dict{})
	case (f == "_rebuild_tensor_v2" || f == "_rebuild_tensor") && len(in) >= 4:
		s, okS := in[0].(storage)
		offset, okO := in[1].(int64)
		shape, okShape := integers(in[2])
		strides, okStrides := integers(in[3])
		if !okS || !okO || !okShape || !okStrides || offset < 0 || len(shape) != len(strides) || len(shape) > 8 {
			return fmt.Errorf("%w: a tensor that is not made of a storage, an offset, a shape and strides", ErrFormat)
		}
		v := view{storage: s, offset: offset, strides: strides}
		for _, d := range shape {
			if d < 0 || d > math.MaxInt32 {
				return fmt.Errorf("%w: a tensor with dimension %d", ErrFormat, d)
			}
			v.shape = append(v.shape, int(d))
		}
		return m.push(v)
	case f == "_rebuild_parameter" && len(in) >= 1:
		if v, ok := in[0].(view); ok {
			return m.push(v)
		}
	}
	return fmt.Errorf("%w: a call of %s with %d arguments", ErrForbidden, f, len(in))
}

func integers(v any) ([]int64, bool) {
	t, ok := v.(tuple)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(t))
	for i, item := range t {
		if out[i], ok = item.(int64); !ok {
			return nil, false
		}
	}
	return out, true
}

// persistent pushes the storage that a persistent id stands for:
// ('storage', class, key, location, count[, view]).
func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, ok := v.(tuple)
	if !ok || len(id) < 5 || id[0] != any("storage") {
		return fmt.Errorf("%w: a persistent id that is no storage", ErrForbidden)
	}
	class, okC := id[1].(global)
	key, okK := id[2].(string)
	count, okN := id[4].(int64)
	if !okC || !okK || !okN || elementSize[string(class)] == 0 || count < 0 || count > math.MaxInt32 {
		return fmt.Errorf("%w: a storage without a type, a key or a length", ErrFormat)
	}
	if len(id) > 5 && id[5] != nil {
		return fmt.Errorf("%w: a view of a storage", ErrForbidden)
	}
	s := storage{string(class), key, count}
	if other, ok := m.used[key]; ok && other != s {
		return fmt.Errorf("%w: storage %.20q has two types or lengths", ErrFormat, key)
	}
	m.used[key] = s
	return m.push(s)
}
