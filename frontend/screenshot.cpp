#include "frontend/screenshot.hpp"

#include <png.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace kiln {

namespace {

struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

void fillRow(const Frame& frame, unsigned y, uint8_t* row) {
    const uint32_t* in = frame.pixels.data() + size_t(y) * frame.width;
    for (unsigned x = 0; x < frame.width; x++) {
        row[x * 3] = uint8_t(in[x] >> 16);
        row[x * 3 + 1] = uint8_t(in[x] >> 8);
        row[x * 3 + 2] = uint8_t(in[x]);
    }
}

bool encodePpm(std::FILE* file, const Frame& frame, uint8_t* row) {
    const size_t size = size_t(frame.width) * 3;
    bool good = std::fprintf(file, "P6\n%u %u\n255\n", frame.width, frame.height) > 0;
    for (unsigned y = 0; good && y < frame.height; y++) {
        fillRow(frame, y, row);
        good = std::fwrite(row, 1, size, file) == size;
    }
    return good;
}

// libpng reports errors by longjmp: nothing here may need a destructor between setjmp and the calls.
bool encodePng(std::FILE* file, const Frame& frame, png_bytep row) {
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png ? png_create_info_struct(png) : nullptr;
    if (!info || setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, frame.width, frame.height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (frame.fillsFourByThree)  // pixels are not square: width * pixel width = 4/3 * height * pixel height
        png_set_pHYs(png, info, 3 * frame.width, 4 * frame.height, PNG_RESOLUTION_UNKNOWN);
    png_write_info(png, info);
    for (unsigned y = 0; y < frame.height; y++) {
        fillRow(frame, y, row);
        png_write_row(png, row);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return true;
}

}  // namespace

PictureFormat pictureFormatOf(const std::string& path) {
    return path.ends_with(".ppm") ? PictureFormat::Ppm : PictureFormat::Png;
}

bool writePicture(const std::string& path, const Frame& frame, PictureFormat format, std::string& error) {
    if (frame.width == 0 || frame.height == 0) {
        error = "There is no picture to save yet.";
        return false;
    }
    std::string temporary = path + ".part";
    std::unique_ptr<std::FILE, FileCloser> file(std::fopen(temporary.c_str(), "wb"));
    if (!file) {
        error = "The screenshot '" + path + "' can't be written: " + std::strerror(errno) + ".";
        return false;
    }
    std::vector<png_byte> row(size_t(frame.width) * 3);
    const auto encode = format == PictureFormat::Png ? encodePng : encodePpm;
    bool written = encode(file.get(), frame, row.data()) && std::fflush(file.get()) == 0;
    int reason = errno;
    file.reset();
    if (written && std::rename(temporary.c_str(), path.c_str()) == 0) return true;
    if (written) reason = errno;
    std::remove(temporary.c_str());
    error = "The screenshot '" + path + "' can't be written: " + std::strerror(reason) + ".";
    return false;
}

}  // namespace kiln
