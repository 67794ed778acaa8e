package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The package that emoji32 is made of: Google's Noto Emoji (images under the
// Apache License 2.0) as npm's emoji-datasource-google, whose JSON names each
// image's category (MIT).
const (
	Emoji32URL    = "https://registry.npmjs.org/emoji-datasource-google/-/emoji-datasource-google-16.0.0.tgz"
	Emoji32Bytes  = 74_344_091
	Emoji32SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"

	emojiJSON  = "emoji.json"
	emojiSheet = "img/google/sheets-clean/32.png"
	emojiSide  = 32
	emojiCell  = emojiSide + 2 // a border of a pixel
	emojiLimit = 64 << 20      // bytes of a member
	// emojiPixels bounds the sheet that is decoded.
	emojiPixels = 1 << 24
)

// Emoji32Licence goes with the images.
const Emoji32Licence = `emoji32: 1,906 images of 32x32 in 9 categories, transparent pixels shown white.

The images are Noto Emoji by Google, under the Apache License, Version 2.0:
https://github.com/googlefonts/noto-emoji/blob/main/LICENSE
They were taken from the npm package emoji-datasource-google 16.0.0 (MIT, Copyright
(c) 2013 Cal Henderson): https://github.com/iamcal/emoji-data
Changes: cut from a sheet, drawn over white, stored as CIFAR-10 records.
`

// Emoji32 makes emoji32.bin, records in CIFAR-10's format, batches.meta.txt with
// the names of the categories by label, and LICENSE.txt, in a directory that
// package data opens as records. Skin tones and components are left out.
func Emoji32(ctx context.Context, o Options) error {
	index, sheet, err := o.emojiFiles(ctx)
	if err != nil {
		return err
	}
	records, classes, err := emojiRecords(index, sheet)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"LICENSE.txt", Emoji32Licence},
		{"batches.meta.txt", strings.Join(classes, "\n") + "\n"},
		{"emoji32.bin", string(records)},
	} {
		if err := writeFile(filepath.Join(o.Out, f.name), strings.NewReader(f.text)); err != nil {
			return err
		}
	}
	if o.From == "" {
		return os.Remove(filepath.Join(o.Out, filepath.Base(Emoji32URL)))
	}
	return nil
}

// emojiFiles returns the two files of the package that are needed.
func (o Options) emojiFiles(ctx context.Context) (index, sheet []byte, err error) {
	if info, err := os.Stat(o.From); err == nil && info.IsDir() {
		root := o.From
		if _, err := os.Stat(filepath.Join(root, emojiJSON)); errors.Is(err, os.ErrNotExist) {
			root = filepath.Join(root, "package") // as npm unpacks it
		}
		if index, err = os.ReadFile(filepath.Join(root, emojiJSON)); err == nil {
			sheet, err = os.ReadFile(filepath.Join(root, filepath.FromSlash(emojiSheet)))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("not the package emoji-datasource-google: %w", err)
		}
		return index, sheet, nil
	}
	archive, err := o.archive(ctx, Emoji32URL, Emoji32SHA256, Emoji32Bytes)
	if err != nil {
		return nil, nil, err
	}
	err = eachFile(archive, func(name string, size int64, r io.Reader) (err error) {
		_, name, _ = strings.Cut(name, "/") // package/
		to := map[string]*[]byte{emojiJSON: &index, emojiSheet: &sheet}[name]
		if to == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if size > emojiLimit {
			return fmt.Errorf("%s: %s has %d bytes; at most %d are read", archive, name, size, emojiLimit)
		}
		*to, err = io.ReadAll(r)
		return err
	})
	if err == nil && (index == nil || sheet == nil) {
		err = fmt.Errorf("%s lacks %s or %s: it is not the package emoji-datasource-google", archive, emojiJSON, emojiSheet)
	}
	return index, sheet, err
}

// emojiRecords cuts the images out of the sheet. Classes are the categories in
// the order of their names, images come in the order of the index.
func emojiRecords(index, sheet []byte) (records []byte, classes []string, err error) {
	var list []struct {
		Category string
		X        int  `json:"sheet_x"`
		Y        int  `json:"sheet_y"`
		Has      bool `json:"has_img_google"`
	}
	if err := json.Unmarshal(index, &list); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", emojiJSON, err)
	}
	header, err := png.DecodeConfig(bytes.NewReader(sheet))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", emojiSheet, err)
	}
	if header.Width > emojiPixels/max(header.Height, 1) {
		return nil, nil, fmt.Errorf("%s: %d x %d pixels are more than the %d that are read", emojiSheet, header.Width, header.Height, emojiPixels)
	}
	drawing, err := png.Decode(bytes.NewReader(sheet))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", emojiSheet, err)
	}
	for _, e := range list {
		if e.Has && e.Category != "Component" {
			classes = append(classes, e.Category)
		}
	}
	slices.Sort(classes)
	classes = slices.Compact(classes)
	if len(classes) == 0 || len(classes) > 256 {
		return nil, nil, fmt.Errorf("%s: %d categories", emojiJSON, len(classes))
	}
	cells := drawing.Bounds().Size().Div(emojiCell)
	cell := image.NewNRGBA(image.Rect(0, 0, emojiSide, emojiSide))
	for i, e := range list {
		if !e.Has || e.Category == "Component" {
			continue
		}
		if e.X < 0 || e.Y < 0 || e.X >= cells.X || e.Y >= cells.Y {
			return nil, nil, fmt.Errorf("%s: entry %d is at column %d, row %d of a sheet of %d x %d", emojiJSON, i, e.X, e.Y, cells.X, cells.Y)
		}
		draw.Draw(cell, cell.Rect, image.White, image.Point{}, draw.Src)
		at := drawing.Bounds().Min.Add(image.Pt(e.X*emojiCell+1, e.Y*emojiCell+1))
		draw.Draw(cell, cell.Rect, drawing, at, draw.Over)
		label, _ := slices.BinarySearch(classes, e.Category)
		records = append(records, byte(label))
		for plane := range 3 {
			for p := plane; p < len(cell.Pix); p += 4 {
				records = append(records, cell.Pix[p])
			}
		}
	}
	return records, classes, nil
}
