// A register of a device that can be read, or written, without asking the device: nothing else happens than
// that memory is read or written, or that time is looked at. Who has translated an access to it does so by
// itself.
#pragma once
#include <cstdint>
#include <memory>

#include "mmu/register_steps.hpp"

namespace kiln {

struct DirectRegister {
    enum class Form : uint8_t {
        None,      // the device has to be asked
        Constant,  // reads give `constant`, writes do nothing
        Place,     // `bytes` at `place`
        Counter,   // guest time since *since (ns), times `factor` / 2^64, shifted right, plus *from
        Steps,     // `steps`
    };
    Form form = Form::None;
    uint8_t bytes = 0;
    uint8_t shift = 0;
    // Only while the byte at `guard` has `guarded` in the bits of `guardMask`; null: always.
    uint8_t guardMask = 0xff, guarded = 0;
    const uint8_t* guard = nullptr;
    void* place = nullptr;
    uint64_t mask = ~0ull;  // of the bits that are kept; the others are those of `constant`
    uint64_t constant = 0;
    const uint64_t *since = nullptr, *from = nullptr;  // null: 0
    uint64_t factor = 0;
    std::shared_ptr<const RegisterSteps> steps{};

    explicit operator bool() const { return form != Form::None; }
    bool mayRefuse() const { return guard || form == Form::Steps; }  // the device is to be asked then
    static DirectRegister always(uint64_t value) { return {.form = Form::Constant, .constant = value}; }
    static DirectRegister by(RegisterSteps steps) {
        return {.form = Form::Steps, .steps = std::make_shared<const RegisterSteps>(std::move(steps))};
    }
    // Of an integer that is as wide as the register, or is extended with zeros.
    template <class T>
    static DirectRegister at(T& value, uint64_t mask = ~0ull) {
        return {.form = Form::Place, .bytes = sizeof(T), .place = &value, .mask = mask};
    }
    // `flag` must be false, or 0.
    template <class T>
    DirectRegister unless(const T& flag) const {
        static_assert(sizeof(T) == 1);
        DirectRegister r = *this;
        r.guard = reinterpret_cast<const uint8_t*>(&flag);
        return r;
    }
};

}  // namespace kiln
