// One picture of a display, as a renderer leaves it and a window, a PNG writer or a test reads it.
#pragma once
#include <cstdint>
#include <vector>

namespace kiln {

struct Frame {
    unsigned width = 0, height = 0;  // in pixels; 0 x 0 before the first picture
    std::vector<uint32_t> pixels;    // rows from top to bottom, 0x00RRGGBB; the top byte means nothing
    bool fillsFourByThree = false;   // shown on a 4:3 tube whatever its size; false: square pixels
};

}  // namespace kiln
