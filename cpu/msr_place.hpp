// Where a model-specific register lies that is nothing but a value: who has translated an access to it does
// so by itself.
#pragma once
#include <cstdint>

namespace kiln {

struct MsrPlace {
    enum class Where : uint8_t { None, Constant, Field, FsBase, GsBase };
    Where where = Where::None;
    bool canonical = false;     // what it takes: such addresses only,
    uint64_t mask = ~0ull;      // or values without other bits
    uint64_t* place = nullptr;  // of a Field
    uint64_t constant = 0;
};

}  // namespace kiln
