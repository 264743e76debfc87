// Lists in QEMU's options: commas separate the parts, and a doubled comma is one inside a part.
#pragma once
#include <string>
#include <vector>

namespace kiln {

inline std::vector<std::string> splitCommas(const std::string& text) {
    std::vector<std::string> parts(1);
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != ',')
            parts.back() += text[i];
        else if (i + 1 < text.size() && text[i + 1] == ',')
            parts.back() += text[i++];
        else
            parts.emplace_back();
    }
    return parts;
}

}  // namespace kiln
