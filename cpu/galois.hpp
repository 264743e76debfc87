// Bytes as polynomials over GF(2) modulo x^8 + x^4 + x^3 + x + 1, the field of AES and GFNI.
#pragma once
#include <cstdint>

namespace kiln::galois {

constexpr uint8_t multiply(uint8_t a, uint8_t b) {
    unsigned product = 0;
    for (unsigned n = 0; n < 8; n++) product ^= (b >> n & 1u) * (unsigned(a) << n);
    for (unsigned n = 14; n >= 8; n--) product ^= (product >> n & 1) * (0x11bu << (n - 8));
    return uint8_t(product);
}
constexpr uint8_t inverse(uint8_t v) {  // v^254; that of 0 is 0
    uint8_t r = 1;
    for (unsigned n = 0; n < 7; n++) {
        v = multiply(v, v);
        r = multiply(r, v);
    }
    return r;
}

}  // namespace kiln::galois
