package tensorboard

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of a TFRecord (tensorflow/core/lib/hash/crc32c.h).
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// appendRecord appends a TFRecord:
//
//	length u64 | masked CRC of the length u32 | data | masked CRC of the data u32
//
// all little endian.
func appendRecord(dst, data []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(data)))
	dst = binary.LittleEndian.AppendUint32(dst, maskedCRC(dst[at:at+8]))
	dst = append(dst, data...)
	return binary.LittleEndian.AppendUint32(dst, maskedCRC(data))
}

// Field numbers of tensorflow/core/util/event.proto, tensorflow/core/framework/
// {summary,tensor,tensor_shape}.proto and tensorboard/plugins/hparams/plugin_data.proto.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog = 1, 2, 3, 5, 7

	sessionStatus, sessionStart = 1, 1

	summaryValue                                              = 1
	valueTag, valueSimple, valueImage, valueTensor, valueMeta = 1, 2, 4, 8, 9

	imageHeight, imageWidth, imageColorspace, imageEncoded = 1, 2, 3, 4

	tensorType, tensorShape, tensorFloats, tensorStrings = 1, 2, 5, 8
	typeFloat, typeString                                = 1, 7
	shapeDim, dimSize                                    = 2, 1

	metaPlugin, metaClass, classTensor = 1, 4, 2
	pluginName, pluginContent          = 1, 2

	hparamsVersion, hparamsStart         = 1, 3
	startHParams, startGroup, startTime  = 1, 4, 5
	mapKey, mapValue                     = 1, 2
	structNumber, structText, structBool = 2, 3, 4
)

func appendBytes(dst []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendString(dst []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendInt(dst []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(v))
}

func appendDouble(dst []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendFloat(dst []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(dst, field, protowire.Fixed32Type), math.Float32bits(float32(v)))
}

// event is an Event message; content is one of its fields, whole.
func event(wall float64, step int64, content []byte) []byte {
	b := appendDouble(nil, eventWallTime, wall)
	b = appendInt(b, eventStep, step)
	return append(b, content...)
}

// scalar is a Summary.Value.
func scalar(tag string, v float64) []byte {
	return appendFloat(appendString(nil, valueTag, tag), valueSimple, v)
}

// picture is a Summary.Value of an image that is encoded as PNG. Colorspace is 1
// for grey, 3 for RGB, 4 for RGBA.
func picture(tag string, height, width, colorspace int, png []byte) []byte {
	b := appendInt(nil, imageHeight, int64(height))
	b = appendInt(b, imageWidth, int64(width))
	b = appendInt(b, imageColorspace, int64(colorspace))
	b = appendBytes(b, imageEncoded, png)
	return appendBytes(appendString(nil, valueTag, tag), valueImage, b)
}

// metadata is the SummaryMetadata of a plugin's tensor.
func metadata(plugin string, content []byte) []byte {
	b := appendString(nil, pluginName, plugin)
	if content != nil {
		b = appendBytes(b, pluginContent, content)
	}
	return appendInt(appendBytes(nil, metaPlugin, b), metaClass, classTensor)
}

// vector is the TensorShape of one element.
func vector() []byte { return appendBytes(nil, shapeDim, appendInt(nil, dimSize, 1)) }

// text is a Summary.Value of TensorBoard's text plugin, which renders Markdown.
func text(tag, markdown string) []byte {
	t := appendInt(nil, tensorType, typeString)
	t = appendBytes(t, tensorShape, vector())
	t = appendString(t, tensorStrings, markdown)
	b := appendString(nil, valueTag, tag)
	b = appendBytes(b, valueTensor, t)
	return appendBytes(b, valueMeta, metadata("text", nil))
}

// hparams is the Summary.Value by which the hparams plugin learns a run's settings.
// Values are numbers, booleans or text.
func hparams(names []string, values map[string]any, group string, wall float64) []byte {
	var start []byte
	for _, name := range names {
		var v []byte
		switch x := values[name].(type) {
		case bool:
			v = appendInt(nil, structBool, int64(protowire.EncodeBool(x)))
		case float64:
			v = appendDouble(nil, structNumber, x)
		case int:
			v = appendDouble(nil, structNumber, float64(x))
		case int64:
			v = appendDouble(nil, structNumber, float64(x))
		case string:
			v = appendString(nil, structText, x)
		default:
			continue
		}
		start = appendBytes(start, startHParams, appendBytes(appendString(nil, mapKey, name), mapValue, v))
	}
	start = appendString(start, startGroup, group)
	start = appendDouble(start, startTime, wall)
	content := appendBytes(appendInt(nil, hparamsVersion, 0), hparamsStart, start)

	t := appendInt(nil, tensorType, typeFloat)
	t = appendBytes(t, tensorShape, vector())
	t = appendFloat(t, tensorFloats, 0)
	b := appendString(nil, valueTag, "_hparams_/session_start_info")
	b = appendBytes(b, valueTensor, t)
	return appendBytes(b, valueMeta, metadata("hparams", content))
}

// summary is the field of an Event that holds the values.
func summary(values ...[]byte) []byte {
	var s []byte
	for _, v := range values {
		s = appendBytes(s, summaryValue, v)
	}
	return appendBytes(nil, eventSummary, s)
}
