// One target as a libFuzzer program: KILN_FUZZ_TARGET names it.
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    kiln::fuzz::KILN_FUZZ_TARGET.run({data, size});
    return 0;
}
