#include "translate/host_assembler.hpp"

#include <cassert>
#include <cstring>

namespace kiln {

using namespace asmjit;

HostAssembler::HostAssembler() {
    code_.init(Environment::host());
    code_.setErrorHandler(&refusal_);
    code_.attach(&asmjit_);
    for (Buffer& b : parts_) b.bytes.resize(4096);
    reset();
}

void HostAssembler::reset() {
    labels_.clear();
    distances_.clear();
    siteNumbers_.clear();
    for (Buffer& b : parts_) b.used = 0;
    part_ = Part::Main;
    begin_ = at_ = parts_[0].bytes.data();
    end_ = begin_ + parts_[0].bytes.size();
    options_ = InstOptions::kNone;
    _extraReg.reset();
    raxHolds_ = kNothing;
}

void HostAssembler::section(Part part) {
    parts_[size_t(part_)].used = offset();
    part_ = part;
    Buffer& b = parts_[size_t(part)];
    begin_ = b.bytes.data();
    at_ = begin_ + b.used;
    end_ = begin_ + b.bytes.size();
}

void HostAssembler::grow() {
    Buffer& b = parts_[size_t(part_)];
    b.used = offset();
    b.bytes.resize(b.bytes.size() * 2);
    section(part_);
}

void HostAssembler::embedUInt8(uint8_t value) {
    room();
    *at_++ = value;
}

void HostAssembler::embedUInt32(uint32_t value) {
    room();
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
}

void HostAssembler::embedSite(uint32_t number) {
    siteNumbers_.push_back({part_, uint32_t(offset())});
    embedUInt32(number);
}

void HostAssembler::numberSites(uint32_t first) {
    for (const Place& p : siteNumbers_) {
        uint8_t* at = parts_[size_t(p.part)].bytes.data() + p.offset;
        uint32_t number;
        std::memcpy(&number, at, sizeof number);
        number += first;
        std::memcpy(at, &number, sizeof number);
    }
}

// With the instructions that the manual recommends (SDM vol. 2, NOP).
void HostAssembler::align16() {
    static constexpr uint8_t kNops[9][9] = {{0x90},
                                            {0x66, 0x90},
                                            {0x0f, 0x1f, 0x00},
                                            {0x0f, 0x1f, 0x40, 0x00},
                                            {0x0f, 0x1f, 0x44, 0x00, 0x00},
                                            {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
                                            {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
                                            {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
                                            {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}};
    room();
    for (size_t left = -offset() & 15; left;) {
        const size_t size = std::min(left, std::size(kNops));
        std::memcpy(at_, kNops[size - 1], size);
        at_ += size;
        left -= size;
    }
}

std::span<const uint8_t> HostAssembler::bytes(Part part) const {
    const Buffer& b = parts_[size_t(part)];
    return {b.bytes.data(), part == part_ ? offset() : b.used};
}

void HostAssembler::resolve(const uint8_t* main, const uint8_t* cold) {
    base_[0] = main, base_[1] = cold;
    for (const Distance& d : distances_) {
        const size_t part = size_t(d.at.part);
        uint8_t* field = parts_[part].bytes.data() + d.at.offset;
        const uint8_t* behind = base_[part] + d.at.offset + d.bytes;
        const Place* to = d.address ? nullptr : &labels_[d.label];
        assert(!to || to->offset != kUnbound);
        const uint64_t target = to ? uint64_t(base_[size_t(to->part)] + to->offset) : d.address;
        const auto distance = int64_t(target - uint64_t(behind));
        const bool fits = d.bytes == 1 ? distance == int8_t(distance) : distance == int32_t(distance);
        if (!fits) throw std::runtime_error("a jump's target is too far away");
        std::memcpy(field, &distance, d.bytes);
    }
}

namespace {

bool isRax(const Operand_& o) { return o.isReg() && o.as<BaseReg>().isGp() && o.id() == 0; }

bool usesRaxByNature(InstId id) {
    namespace I = x86::Inst;
    switch (id) {
        case I::kIdLahf:
        case I::kIdMul:
        case I::kIdImul:
        case I::kIdDiv:
        case I::kIdIdiv:
        case I::kIdCbw:
        case I::kIdCwde:
        case I::kIdCdqe:
        case I::kIdCmpxchg:
        case I::kIdCmpxchg8b:
        case I::kIdCmpxchg16b:
        case I::kIdCall: return true;
        default: return false;
    }
}

}  // namespace

void HostAssembler::forgetRax(InstId id, const Operand_* operands, size_t count) {
    bool named = usesRaxByNature(id);
    for (size_t n = 0; n < count; n++) named |= isRax(operands[n]);
    if (named) raxHolds_ = kNothing;
}

Error HostAssembler::put(InstId id, const Operand_& a, const Operand_& b) {
    if (raxHolds_ != kNothing) {
        const Operand_ both[] = {a, b};
        forgetRax(id, both, 2);
    }
    room();
    if (!encode(id, a, b)) {
        const Operand_ both[] = {a, b};
        byAsmjit(id, both, b.isNone() ? a.isNone() ? 0 : 1 : 2);
    }
    options_ = InstOptions::kNone;
    return kErrorOk;
}

void HostAssembler::emitOpArray(InstId id, const Operand_* operands, size_t count) {
    if (count <= 2) {
        put(id, count > 0 ? operands[0] : none_, count > 1 ? operands[1] : none_);
        return;
    }
    if (raxHolds_ != kNothing) forgetRax(id, operands, count);
    room();
    byAsmjit(id, operands, count);
    options_ = InstOptions::kNone;
}

void HostAssembler::byAsmjit(InstId id, const Operand_* operands, size_t count) {
    for (size_t n = 0; n < count; n++) assert(!operands[n].isLabel());
    asmjit_.setOffset(0);
    asmjit_.setInstOptions(std::exchange(options_, InstOptions::kNone));
    asmjit_.setExtraReg(_extraReg);
    _extraReg.reset();
    asmjit_.emitOpArray(id, operands, count);
    const size_t size = asmjit_.offset();
    std::memcpy(at_, asmjit_.bufferData(), size);
    at_ += size;
}

}  // namespace kiln
