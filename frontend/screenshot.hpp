// Pictures of the guest's screen as PNG or PPM files.
#pragma once
#include <cstdint>
#include <string>

#include "devices/frame.hpp"

namespace kiln {

enum class PictureFormat : uint8_t { Png, Ppm };

// By a file's name: .ppm is PPM, anything else PNG.
PictureFormat pictureFormatOf(const std::string& path);

// Writes `frame` to `path` by way of a temporary file, so that an existing file is replaced by a whole
// picture or not at all. False, with a sentence in `error`, when there is no picture or the host refuses.
bool writePicture(const std::string& path, const Frame& frame, PictureFormat format, std::string& error);
inline bool writePng(const std::string& path, const Frame& frame, std::string& error) {
    return writePicture(path, frame, PictureFormat::Png, error);
}

}  // namespace kiln
