// One visit of every field of a chip's state. The same visit serves replay hashes, snapshots and the
// debugger's panels, so a field is named once.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

namespace kiln {

class StateVisitor {
  public:
    virtual ~StateVisitor() = default;

    template <class T>
    requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) void operator()(std::string_view name, T& field) {
        bytes(name, &field, sizeof field);
    }
    template <class T, size_t N>
    void operator()(std::string_view name, std::array<T, N>& field) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes(name, field.data(), sizeof field);
    }
    // The vector keeps its size: buffers such as video memory, sized at construction.
    template <class T>
    void operator()(std::string_view name, std::vector<T>& field) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes(name, field.data(), field.size() * sizeof(T));
    }

    virtual void bytes(std::string_view name, void* data, size_t size) = 0;
};

// FNV-1a over every visited field: equal states have equal hashes.
class StateHash : public StateVisitor {
  public:
    void bytes(std::string_view, void* data, size_t size) override {
        auto* p = static_cast<const uint8_t*>(data);
        for (size_t i = 0; i < size; i++) value_ = (value_ ^ p[i]) * 0x100000001b3ull;
    }
    uint64_t value() const { return value_; }

  private:
    uint64_t value_ = 0xcbf29ce484222325ull;
};

}  // namespace kiln
