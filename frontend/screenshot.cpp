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

// libpng reports errors by longjmp: nothing here may need a destructor between setjmp and the calls.
bool encode(std::FILE* file, const Frame& frame, png_bytep row) {
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
        const uint32_t* in = frame.pixels.data() + size_t(y) * frame.width;
        for (unsigned x = 0; x < frame.width; x++) {
            row[x * 3] = png_byte(in[x] >> 16);
            row[x * 3 + 1] = png_byte(in[x] >> 8);
            row[x * 3 + 2] = png_byte(in[x]);
        }
        png_write_row(png, row);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return true;
}

}  // namespace

bool writePng(const std::string& path, const Frame& frame, std::string& error) {
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
