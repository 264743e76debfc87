// Pictures of the guest's screen as PNG files.
#pragma once
#include <string>

#include "devices/frame.hpp"

namespace kiln {

// Writes `frame` to `path` by way of a temporary file, so that an existing file is replaced by a whole
// picture or not at all. False, with a sentence in `error`, when there is no picture or the host refuses.
bool writePng(const std::string& path, const Frame& frame, std::string& error);

}  // namespace kiln
