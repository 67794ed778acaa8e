package data

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// parsePickledBatch finds images and labels in a file of CIFAR-10's Python version:
// a pickled dict whose "data" is a NumPy array of uint8, [n, 3072], planes as in
// the binary version, and whose "labels" is a list of n integers. Pixels stay in
// the file; base is where those of the first image begin.
func parsePickledBatch(r io.Reader, size int64, limits recordLimits) (base int64, labels []byte, err error) {
	top, err := unpickle(r, size)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: the file ends early", err)
		}
		return 0, nil, err
	}
	d, ok := top.(*dict)
	if !ok {
		return 0, nil, fmt.Errorf("%w: no dict", errPickle)
	}
	value := func(key string) any {
		if i := slices.IndexFunc(d.keys, func(k any) bool { return k == key }); i >= 0 {
			return d.values[i]
		}
		return nil
	}
	if value("fine_labels") != nil {
		return 0, nil, fmt.Errorf("%w but of CIFAR-100's", errPickle)
	}
	pixels, ok := value("data").(*array)
	list, ok2 := value("labels").(*list)
	if !ok || !ok2 {
		return 0, nil, fmt.Errorf("%w: no data and labels", errPickle)
	}
	n := len(list.items)
	at, ok := pixels.data.(blob)
	if !ok || pixels.fortran || pixels.dtype != "u1" && pixels.dtype != "|u1" && pixels.dtype != "uint8" ||
		!slices.Equal(pixels.shape, []int64{int64(n), 3 * recordPlane}) || at.length != int64(n)*3*recordPlane {
		return 0, nil, fmt.Errorf("%w: data is no array of %d x %d bytes", errPickle, n, 3*recordPlane)
	}
	if limits.records > 0 && n != limits.records {
		return 0, nil, fmt.Errorf("%d images; there must be %d", n, limits.records)
	}
	for i, v := range list.items {
		label, ok := v.(int64)
		if !ok || label < 0 || label > int64(limits.maxLabel) {
			return 0, nil, fmt.Errorf("image %d has label %v; it must be 0 to %d", i, v, limits.maxLabel)
		}
		labels = append(labels, byte(label))
	}
	return at.at, labels, nil
}
