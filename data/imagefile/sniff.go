package imagefile

import (
	"bytes"
	"strings"
)

// Format is a file format, by the file's first bytes.
type Format string

// The formats that are read.
const (
	PNG  Format = "PNG"
	JPEG Format = "JPEG"
	WebP Format = "WebP"
	BMP  Format = "BMP"
	GIF  Format = "GIF"
	TIFF Format = "TIFF"
)

// sniffLen is how many bytes sniff looks at.
const sniffLen = 512

// sniff returns the format of a file that is read; otherwise format is empty and
// other says what the file seems to be.
func sniff(head []byte) (format Format, other string) {
	has := func(prefix string) bool { return bytes.HasPrefix(head, []byte(prefix)) }
	switch {
	case has("\x89PNG\r\n\x1a\n"):
		return PNG, ""
	case has("\xff\xd8"):
		return JPEG, ""
	case has("RIFF") && len(head) >= 12 && string(head[8:12]) == "WEBP":
		return WebP, ""
	case has("GIF87a"), has("GIF89a"):
		return GIF, ""
	case has("II*\x00"), has("MM\x00*"):
		return TIFF, ""
	case has("BM") && len(head) >= 18 && head[15] == 0 && head[16] == 0: // the info header's length is below 64 KiB
		return BMP, ""
	}
	return "", otherFormat(head)
}

// otherFormat names what is not read.
func otherFormat(head []byte) string {
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		switch brand := string(head[8:12]); brand {
		case "avif", "avis":
			return "AVIF"
		case "heic", "heix", "hevc", "heim", "heis", "mif1", "msf1":
			return "HEIC"
		default:
			return "an ISO media file (video?)"
		}
	}
	for _, m := range []struct{ magic, name string }{
		{"8BPS", "Photoshop (PSD)"},
		{"\x00\x00\x01\x00", "an icon (ICO)"},
		{"\x00\x00\x00\x0cjP  ", "JPEG 2000"},
		{"\xff\x4f\xff\x51", "JPEG 2000"},
		{"\xff\x0a", "JPEG XL"},
		{"\x00\x00\x00\x0cJXL ", "JPEG XL"},
		{"II+\x00", "BigTIFF"},
		{"MM\x00+", "BigTIFF"},
		{"\x76\x2f\x31\x01", "OpenEXR"},
		{"#?RADIANCE", "Radiance HDR"},
		{"qoif", "QOI"},
		{"DDS ", "DirectDraw (DDS)"},
		{"%PDF", "PDF"},
		{"\x93NUMPY", "a NumPy array"},
		{"\x1f\x8b", "gzip"},
		{"PK\x03\x04", "a zip archive"},
		{"version https://git-lfs", "a Git LFS pointer, not the file itself (git lfs pull fetches it)"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	if len(head) > 2 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' && (head[2] == '\n' || head[2] == ' ') {
		return "Netpbm (PPM)"
	}
	text := strings.ToLower(string(bytes.TrimLeft(head, "\xef\xbb\xbf \t\r\n")))
	switch {
	case strings.HasPrefix(text, "<svg"), strings.HasPrefix(text, "<?xml") && strings.Contains(text, "<svg"):
		return "SVG"
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		return "an HTML page (a download that failed?)"
	}
	return "no image format that is known"
}
