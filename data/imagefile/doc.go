// Package imagefile reads one image file: what it is by its first bytes, its
// size and colour mode from the header, and its pixels, upright.
//
// Its one idea: a file is what its bytes say. The extension counts for nothing,
// a header is believed only as far as it costs no memory, and every failure is
// an *Error whose Fault says what kind of failure it is, so that a scan of a
// million files can count them.
//
// PNG, JPEG, WebP, BMP, GIF and TIFF are read; of an animation, the first frame.
// The orientation that cameras write (EXIF) is applied. Anything else is named
// as far as it can be recognised. The package does not scale, walk directories
// or cache.
package imagefile
