#!/usr/bin/env python3
"""Make the image files beside this script, and golden.json: what Pillow reads
of each, upright and over white. Needs Pillow 12 or later:

    python3 -m venv /tmp/v && /tmp/v/bin/pip install pillow && /tmp/v/bin/python make.py
"""
import json, os, struct
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
W, H = 12, 8


def picture(mode="RGB"):
    """Four quarters of different colours: any turn or mirror shows."""
    m = Image.new("RGB", (W, H))
    for y in range(H):
        for x in range(W):
            m.putpixel((x, y), [(250, 20, 20), (20, 200, 40), (30, 30, 220), (240, 220, 30)][(x >= W // 2) + 2 * (y >= H // 2)])
    if mode == "RGBA":
        m = m.convert("RGBA")
        for y in range(H):
            for x in range(3):
                m.putpixel((x, y), m.getpixel((x, y))[:3] + (0 if x < 2 else 128,))
        return m
    return m.convert(mode)


def exif(o):
    e = Image.Exif()
    e[0x0112] = o
    return e


def stored(o):
    """The picture as a camera with orientation o stores it."""
    t = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
    return picture().transpose(t[o]) if o > 1 else picture()


files = set()


def save(name, m, **kw):
    m.save(os.path.join(HERE, name), **kw)
    files.add(name)


for mode in ["1", "L", "LA", "P", "RGB", "RGBA"]:
    m = picture("RGBA").convert("LA") if mode == "LA" else picture(mode)
    save(f"png-{mode.lower()}.png", m)
m16 = Image.new("I;16", (W, H))
for y in range(H):
    for x in range(W):
        m16.putpixel((x, y), 5000 * x + 100 * y)
save("png-gray16.png", m16)
save("anim.png", picture(), save_all=True, append_images=[picture().rotate(180)], duration=100)
save("baseline.jpg", picture(), quality=95)
save("progressive.jpg", picture(), quality=95, progressive=True)
save("gray.jpg", picture("L"), quality=95)
save("cmyk.jpg", picture("CMYK"), quality=95)
save("restart.jpg", picture(), quality=95, restart_marker_blocks=1)
save("lossy.webp", picture(), quality=95)
save("lossless.webp", picture(), lossless=True)
save("alpha.webp", picture("RGBA"), lossless=True, exact=True)
save("alpha-lossy.webp", picture("RGBA"), quality=95)
save("anim.webp", picture(), save_all=True, append_images=[picture().rotate(180)], duration=100, lossless=True)
save("anim-lossy.webp", picture("RGBA"), save_all=True, append_images=[picture("RGBA").rotate(180)], duration=100, quality=95)
save("rgb.bmp", picture())
save("palette.bmp", picture("P"))
save("gray.bmp", picture("L"))
save("still.gif", picture())
save("anim.gif", picture(), save_all=True, append_images=[picture().rotate(180)], duration=100)
save("transparent.gif", picture("P"), transparency=picture("P").getpixel((0, 0)))
save("raw.tiff", picture())
save("lzw.tiff", picture(), compression="tiff_lzw")
save("deflate.tiff", picture(), compression="tiff_adobe_deflate")
save("gray.tiff", picture("L"))
for o in range(1, 9):
    save(f"exif{o}.jpg", stored(o), quality=95, subsampling=0, exif=exif(o))
save("exif6.png", stored(6), exif=exif(6))
save("exif8.webp", stored(8), lossless=True, exif=exif(8))
save("exif3.tiff", stored(3), exif=exif(3))

# The first frame of a GIF that is smaller than its canvas.
frame = os.path.join(HERE, "offset.gif")
small = Image.new("P", (4, 3), 1)
small.putpalette([0, 0, 0, 200, 30, 60] + [0] * 762)
small.save(frame)
b = bytearray(open(frame, "rb").read())
b[6:10] = struct.pack("<HH", W, H)
at = b.index(b"\x2c\x00\x00\x00\x00\x04\x00\x03\x00")
b[at + 1:at + 5] = struct.pack("<HH", 5, 2)
open(frame, "wb").write(b)

golden = {}
for name in sorted(files):
    m = Image.open(os.path.join(HERE, name))
    m.seek(0)
    mode = m.mode
    m = ImageOps.exif_transpose(m)
    if m.mode.startswith("I"):
        rgb = [[v >> 8] * 3 for v in m.get_flattened_data()]
    else:
        rgba = m.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        rgb = [list(p[:3]) for p in Image.alpha_composite(white, rgba).get_flattened_data()]
    golden[name] = {"width": m.width, "height": m.height, "mode": mode, "rgb": sum(rgb, [])}
with open(os.path.join(HERE, "golden.json"), "w") as f:
    f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in golden.items()) + "\n}\n")
