// What an access to a device's register does, told in a few steps, so that who translates the access can do
// it where it is: some conditions, then moves between the device's fields and other memory. There are five
// registers of 64 bits; arithmetic is of 32, and clears the upper half, but for additions to Pointer.
#pragma once
#include <cstdint>
#include <vector>

namespace kiln {

struct RegisterSteps {
    enum Register : uint8_t {
        Value,   // what is written, zero-extended; behind the steps of a read: what was read
        Offset,  // of the access, as IoHandler has it
        Word,    // like the next, unknown at first
        Pointer,
        Device,  // the begin of the device's fields; not to be written
        Nothing,
    };
    enum class Op : uint8_t {
        Move,   // `to` = operand; of fewer than eight bytes zero-extended
        Store,  // operand, in memory = the low bytes of `to`
        And,
        Or,
        Xor,
        Add,
        Subtract,
        Multiply,
        ShiftLeft,
        ShiftRight,
        RequireEqual,  // or else ask the device; in front of all that is stored
        RequireOther,
        RequireBelow,  // unsigned
    };
    // A constant, a register (base), or `bytes` at base + index * scale + constant.
    struct Operand {
        uint64_t constant = 0;
        Register base = Nothing, index = Nothing;
        uint8_t scale = 1, bytes = 0;
    };
    struct Step {
        Op op;
        Register to;
        Operand operand;
    };

    // The device's fields are found from its address.
    explicit RegisterSteps(const void* deviceFields) : device(deviceFields) {}

    template <class T>
    Operand field(const T& f) const {
        static_assert(sizeof(T) <= 8);
        return {distance(&f), Device, Nothing, 1, sizeof(T)};
    }
    // The element of an array of the device's that `index` says.
    template <class Array>
    Operand element(const Array& array, Register index) const {
        constexpr uint8_t kBytes = sizeof(*array.data());
        return {distance(array.data()), Device, index, kBytes, kBytes};
    }
    static Operand at(Register base, Register index, uint8_t scale, uint8_t bytes) {
        return {0, base, index, scale, bytes};
    }
    static Operand constant(uint64_t value) { return {.constant = value}; }
    static Operand address(const void* place) { return constant(uint64_t(place)); }
    static Operand reg(Register r) { return {0, r}; }

    RegisterSteps& add(Op op, Register to, Operand operand) {
        steps.push_back({op, to, operand});
        return *this;
    }

    bool stores() const {
        for (const Step& s : steps)
            if (s.op == Op::Store) return true;
        return false;
    }

    const void* device;
    bool anywhere = false;  // they hold for every offset in the handler's memory, not for this register alone
    std::vector<Step> steps;

  private:
    uint64_t distance(const void* field) const {
        return uint64_t(static_cast<const char*>(field) - static_cast<const char*>(device));
    }
};

}  // namespace kiln
