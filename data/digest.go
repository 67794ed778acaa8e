package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// Digest is the SHA-256 of a data set's size, images and labels. It reads every image;
// Fingerprint is cheaper and looks at what identifies the files.
func Digest(d Dataset) (string, error) {
	h := sha256.New()
	height, width, channels := d.Size()
	fmt.Fprintln(h, d.Len(), height, width, channels)
	image := make([]float32, height*width*channels)
	raw := make([]byte, 4*len(image))
	for i := range d.Len() {
		if err := d.Read(image, i); err != nil {
			return "", fmt.Errorf("%s: image %d: %w", d.Name(), i, err)
		}
		for j, v := range image {
			binary.LittleEndian.PutUint32(raw[4*j:], math.Float32bits(v))
		}
		h.Write(raw)
		fmt.Fprintln(h, d.Label(i))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
