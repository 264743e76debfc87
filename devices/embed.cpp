// Build tool: turns a file into C++ source that holds its bytes. Usage: kiln-embed IN OUT NAME.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 4) return 1;
    std::ifstream in(argv[1], std::ios::binary);
    std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
    std::FILE* out = std::fopen(argv[2], "w");
    if (!in || !out || bytes.empty()) return 1;
    std::fprintf(out,
                 "#include \"devices/embedded.hpp\"\n\nnamespace kiln {\nstatic const uint8_t kBytes[] = {");
    for (size_t i = 0; i < bytes.size(); i++)
        std::fprintf(out, "%s%u,", i % 20 ? "" : "\n    ", unsigned(static_cast<unsigned char>(bytes[i])));
    std::fprintf(out, "\n};\nextern const std::span<const uint8_t> %s(kBytes);\n}  // namespace kiln\n",
                 argv[3]);
    return std::fclose(out) ? 1 : 0;
}
