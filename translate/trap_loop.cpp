#include "translate/trap_loop.hpp"

#include <optional>

#include "translate/guest_registers.hpp"

namespace kiln {

namespace {

using What = TrapLoop::What;
using Step = TrapLoop::Step;
constexpr size_t kMostSteps = 24;

struct Instruction {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    unsigned count() const { return z.operand_count_visible; }
    const ZydisDecodedOperand& operator[](unsigned n) const { return operands[n]; }
    bool isRegister(unsigned n) const { return operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER; }
    bool isMemory(unsigned n) const { return operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY; }
    bool isConstant(unsigned n) const { return operands[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
    int reg(unsigned n) const { return isRegister(n) ? generalRegister(operands[n].reg.value) : -1; }
};

bool address(const Instruction& i, const ZydisDecodedOperandMem& m, Step& s) {
    if (m.segment == ZYDIS_REGISTER_FS || m.segment == ZYDIS_REGISTER_GS || i.z.address_width == 16)
        return false;
    auto number = [](ZydisRegister r, uint8_t& out) {
        if (r == ZYDIS_REGISTER_NONE) return true;
        const int n = generalRegister(r);
        out = uint8_t(n);
        return n >= 0;
    };
    if (!number(m.base, s.base) || !number(m.index, s.index)) return false;
    s.scale = m.scale == 8 ? 3 : m.scale == 4 ? 2 : m.scale == 2 ? 1 : 0;
    s.constant = m.disp.has_displacement ? m.disp.value : 0;
    s.width = uint8_t(i.z.address_width / 8);
    return true;
}

// The register that is moved to or from memory.
bool data(const Instruction& i, unsigned n, Step& s) {
    if (!i.isRegister(n)) return false;
    const int high = highByteOf(i[n].reg.value), whole = i.reg(n);
    s.high = high >= 0;
    s.to = uint8_t(s.high ? high : whole);
    return high >= 0 || whole >= 0;
}

std::optional<Step> move(const Instruction& i) {
    const bool extends = i.z.mnemonic == ZYDIS_MNEMONIC_MOVZX;
    Step s{};
    if (i.isMemory(0)) {
        if (!address(i, i[0].mem, s)) return {};
        s.bytes = uint8_t(i[0].size / 8);
        if (i.isConstant(1)) {
            // The displacement has the only place for one.
            if (s.constant) return {};
            s.what = What::StoreConstant;
            s.constant = i[1].imm.value.s;
            return s;
        }
        s.what = What::Store;
        return data(i, 1, s) ? std::optional(s) : std::nullopt;
    }
    if (!data(i, 0, s)) return {};
    s.merges = i[0].size < 32;
    if (extends && s.merges) return {};
    s.bytes = uint8_t(i[1].size / 8);
    if (i.isMemory(1)) {
        s.what = What::Load;
        return address(i, i[1].mem, s) ? std::optional(s) : std::nullopt;
    }
    s.what = What::Move;
    if (s.high) return {};
    if (i.isConstant(1)) {
        s.what = What::Constant;
        s.bytes = uint8_t(i[0].size / 8);
        s.constant = i[1].imm.value.s;
        return s;
    }
    if (i.reg(1) < 0) return {};
    s.from = uint8_t(i.reg(1));
    return s;
}

std::optional<Step> arithmetic(const Instruction& i, What what) {
    if (i.reg(0) < 0) return {};
    Step s{.what = what, .bytes = uint8_t(i[0].size / 8), .to = uint8_t(i.reg(0))};
    s.merges = i[0].size < 32;
    if (what == What::Inc || what == What::Dec) return s;
    if (i.isConstant(1)) {
        s.constant = i[1].imm.value.s;
        return s;
    }
    if (i.reg(1) < 0) return {};
    s.from = uint8_t(i.reg(1));
    return s;
}

std::optional<Step> string(const Instruction& i, bool stores) {
    if (i.z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE |
                          ZYDIS_ATTRIB_HAS_SEGMENT) ||
        i.z.address_width == 16)
        return {};
    constexpr uint8_t kRax = 0, kRsi = 6, kRdi = 7;
    const auto bytes = uint8_t(i.z.operand_width / 8);
    return Step{.what = stores ? What::Store : What::Load,
                .bytes = bytes,
                .to = kRax,
                .base = stores ? kRdi : kRsi,
                .advance = bytes,
                .merges = bytes < 4,
                .width = uint8_t(i.z.address_width / 8)};
}

std::optional<Step> port(const Instruction& i, bool in) {
    const unsigned data = in ? 0 : 1, port = in ? 1 : 0;
    Step s{.what = in ? What::In : What::Out, .bytes = uint8_t(i[data].size / 8), .to = 0};
    s.merges = s.bytes < 4;
    s.from = i.isConstant(port) ? TrapLoop::kNone : TrapLoop::kDx;
    if (i.isConstant(port)) s.constant = uint8_t(i[port].imm.value.u);
    return s;
}

std::optional<Step> stepOf(const Instruction& i) {
    if (i.z.attributes & ZYDIS_ATTRIB_HAS_LOCK) return {};
    switch (i.z.mnemonic) {
        case ZYDIS_MNEMONIC_IN: return port(i, true);
        case ZYDIS_MNEMONIC_OUT: return port(i, false);
        case ZYDIS_MNEMONIC_MOV:
        case ZYDIS_MNEMONIC_MOVZX: return move(i);
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
        case ZYDIS_MNEMONIC_STOSQ: return string(i, true);
        case ZYDIS_MNEMONIC_LODSB:
        case ZYDIS_MNEMONIC_LODSW:
        case ZYDIS_MNEMONIC_LODSD:
        case ZYDIS_MNEMONIC_LODSQ: return string(i, false);
        case ZYDIS_MNEMONIC_INC: return arithmetic(i, What::Inc);
        case ZYDIS_MNEMONIC_DEC: return arithmetic(i, What::Dec);
        case ZYDIS_MNEMONIC_ADD: return arithmetic(i, What::Add);
        case ZYDIS_MNEMONIC_SUB: return arithmetic(i, What::Sub);
        case ZYDIS_MNEMONIC_CMP: return arithmetic(i, What::Compare);
        case ZYDIS_MNEMONIC_TEST: return arithmetic(i, What::Test);
        case ZYDIS_MNEMONIC_LEA: {
            Step s{.what = What::Address, .bytes = uint8_t(i[0].size / 8)};
            if (i.reg(0) < 0 || i[0].size < 32 || !address(i, i[1].mem, s)) return {};
            s.to = uint8_t(i.reg(0));
            return s;
        }
        default: return {};
    }
}

struct Addition {
    uint8_t reg = TrapLoop::kNone, width = 0;
    int64_t value = 0;
};

Addition additionOf(const Step& s) {
    const bool constant = s.from == TrapLoop::kNone && !s.merges;
    switch (s.what) {
        case What::Load:
        case What::Store: return s.advance ? Addition{s.base, s.width, s.advance} : Addition{};
        case What::Inc: return !s.merges ? Addition{s.to, s.bytes, 1} : Addition{};
        case What::Dec: return !s.merges ? Addition{s.to, s.bytes, -1} : Addition{};
        case What::Add: return constant ? Addition{s.to, s.bytes, s.constant} : Addition{};
        case What::Sub: return constant ? Addition{s.to, s.bytes, -s.constant} : Addition{};
        case What::Loop: return {1, s.width, -1};
        default: return {};
    }
}

bool setsFlags(What w) { return w >= What::Add && w <= What::Dec; }
bool setsAllFlags(What w) { return w >= What::Add && w <= What::Test; }

// Whether the flags behind several rounds, entered at the step `access`, are those of the last one's steps
// behind `access`.
bool flagsAreNew(const std::vector<Step>& steps, unsigned access) {
    bool before = false, carry = false, behind = false, all = false;
    for (unsigned n = 0; n < steps.size(); n++) {
        const What w = steps[n].what;
        carry |= setsAllFlags(w);
        before |= n < access && setsFlags(w);
        if (n > access && setsFlags(w) && !behind) behind = true, all = setsAllFlags(w);
    }
    return !before || (behind && (all || !carry));
}

std::optional<TrapLoop::Bulk> bulkOf(const std::vector<Step>& steps) {
    TrapLoop::Bulk b;
    unsigned sinks = 0;
    for (unsigned n = 0; n < steps.size(); n++) {
        const Step& s = steps[n];
        switch (s.what) {
            case What::In:
            case What::Load:
                if (b.source != TrapLoop::kNone) return {};
                b.source = uint8_t(n);
                break;
            case What::Out:
            case What::Store:
            case What::StoreConstant:
                sinks++;
                b.sink = uint8_t(n);
                break;
            case What::Loop: b.counts = uint8_t(n); break;
            case What::Branch:
            case What::Compare: break;
            case What::Inc:
            case What::Dec:
            case What::Add:
            case What::Sub:
                if (additionOf(s).reg == TrapLoop::kNone) return {};
                break;
            default: return {};
        }
        if (setsFlags(s.what) && steps.back().what == What::Branch) b.counts = uint8_t(n);
        if (const Addition a = additionOf(s); a.reg != TrapLoop::kNone) {
            if (b.width[a.reg] && b.width[a.reg] != a.width) return {};
            const int64_t stride = b.stride[a.reg] + a.value;
            if (stride != int8_t(stride)) return {};
            b.width[a.reg] = a.width;
            b.stride[a.reg] = int8_t(stride);
        }
    }
    if (sinks != 1) return {};
    const Step& sink = steps[b.sink];
    auto moves = [&](const Step& s) {
        if (s.what == What::In || s.what == What::Out)
            return s.from != TrapLoop::kDx || !b.width[2];  // the port stays
        if (s.index != TrapLoop::kNone || s.base == TrapLoop::kNone) return false;
        return b.stride[s.base] == 0 || (b.stride[s.base] == s.bytes && b.width[s.base] <= s.width);
    };
    if (!moves(sink) || sink.high) return {};
    if (sink.what != What::StoreConstant && b.width[sink.to]) return {};
    if (b.source != TrapLoop::kNone) {
        const Step& source = steps[b.source];
        if (b.source > b.sink || !moves(source) || source.high || source.bytes != sink.bytes ||
            sink.what == What::StoreConstant || source.to != sink.to || source.to == source.base ||
            source.to == sink.base ||
            (source.to == 2 && (source.from == TrapLoop::kDx || sink.from == TrapLoop::kDx)))
            return {};
        if (!flagsAreNew(steps, b.source)) return {};
    }
    if (!flagsAreNew(steps, b.sink)) return {};
    const Step& counts = steps[b.counts];
    const uint8_t data = b.source != TrapLoop::kNone ? steps[b.source].to : TrapLoop::kNone;
    switch (counts.what) {
        case What::Loop: break;
        case What::Compare:
            if (counts.to == data || counts.from == data || counts.merges) return {};
            [[fallthrough]];
        default:
            if (steps.back().what != What::Branch || !setsFlags(counts.what)) return {};
    }
    return b;
}

}  // namespace

int64_t TrapLoop::addedBefore(unsigned step, unsigned reg) const {
    int64_t sum = 0;
    for (unsigned n = 0; n < step; n++)
        if (const Addition a = additionOf(steps[n]); a.reg == reg) sum += a.value;
    return sum;
}

std::shared_ptr<const TrapLoop> TrapLoop::of(const ZydisDecoder& decoder, const Block& block,
                                             std::span<const uint8_t> bytes) {
    if (block.count > kMostSteps || block.crosses || block.mode == CodeMode::Code16) return nullptr;
    auto loop = std::make_shared<TrapLoop>();
    for (size_t at = 0; at < bytes.size();) {
        Instruction i;
        if (!ZYAN_SUCCESS(
                ZydisDecoderDecodeFull(&decoder, bytes.data() + at, bytes.size() - at, &i.z, i.operands)))
            return nullptr;
        at += i.z.length;
        const bool back = i.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && i.isConstant(0) &&
                          int64_t(at) + i[0].imm.value.s == 0;
        if (!back) {
            const auto step = stepOf(i);
            if (!step) return nullptr;
            loop->steps.push_back(*step);
            continue;
        }
        Step end{.what = What::Branch};
        switch (i.z.mnemonic) {
            case ZYDIS_MNEMONIC_JNZ: break;
            case ZYDIS_MNEMONIC_JZ: end.what = What::BranchIfZero; break;
            case ZYDIS_MNEMONIC_LOOP: end.what = What::Loop; break;
            default: return nullptr;
        }
        end.width = uint8_t(i.z.address_width / 8);
        loop->steps.push_back(end);
        if (end.width == 2) return nullptr;
        loop->bulk = bulkOf(loop->steps);
        return loop;
    }
    return nullptr;
}

}  // namespace kiln
