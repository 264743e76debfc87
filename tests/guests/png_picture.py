"""Reads the PNG files that kiln's `screendump` writes (8 bits, RGB or RGBA, not interlaced), with nothing but zlib."""
import struct
import zlib


class Picture:
    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        if data[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError(path + " is no PNG file")
        at, packed = 8, b""
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at:at + 8])
            chunk = data[at + 8:at + 8 + length]
            at += 12 + length
            if kind == b"IHDR":
                self.width, self.height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", chunk)
                if depth != 8 or colour not in (2, 6) or interlace:
                    raise ValueError(path + ": a kind of PNG that kiln does not write")
                self.bytes_per_pixel = 3 if colour == 2 else 4
            elif kind == b"IDAT":
                packed += chunk
        self._unfilter(zlib.decompress(packed))

    def _unfilter(self, raw):
        """Undoes the filters of the PNG specification, section 9."""
        step, size = self.bytes_per_pixel, self.width * self.bytes_per_pixel
        self.rows, above = [], bytearray(size)
        for y in range(self.height):
            start = y * (size + 1)
            kind, row = raw[start], bytearray(raw[start + 1:start + 1 + size])
            if kind == 2:
                row = bytearray((a + b) & 255 for a, b in zip(row, above))
            elif kind:
                for x in range(size):
                    left = row[x - step] if x >= step else 0
                    corner = above[x - step] if x >= step else 0
                    row[x] = (row[x] + (left if kind == 1 else (left + above[x]) // 2 if kind == 3 else
                                        self._paeth(left, above[x], corner))) & 255
            self.rows.append(bytes(row))
            above = row

    @staticmethod
    def _paeth(a, b, c):
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        return a if pa <= pb and pa <= pc else b if pb <= pc else c

    def pixel(self, x, y):
        at = x * self.bytes_per_pixel
        return self.rows[y][at:at + 3]

    def colours(self):
        return len({self.pixel(x, y) for y in range(self.height) for x in range(self.width)})

    def differences(self, other):
        """The places where two pictures of the same size differ."""
        return [(x, y) for y in range(self.height) if self.rows[y] != other.rows[y]
                for x in range(self.width) if self.pixel(x, y) != other.pixel(x, y)]
