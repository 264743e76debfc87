#include "translate/host_listing.hpp"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "translate/host_frame.hpp"

namespace kiln {

namespace {

struct FrameMember {
    size_t offset, size;
    const char* name;
};
#define KILN_MEMBER(m) \
    { offsetof(HostFrame, m), sizeof(HostFrame::m), #m }
#define KILN_PART(m, name) \
    { offsetof(HostFrame, m), 8, name }
constexpr FrameMember kMembers[] = {
    KILN_MEMBER(flags),
    KILN_MEMBER(slice),
    KILN_MEMBER(beyond),
    KILN_MEMBER(page),
    KILN_MEMBER(rip),
    KILN_MEMBER(value),
    KILN_MEMBER(target),
    KILN_MEMBER(hostTarget),
    KILN_MEMBER(operand),
    KILN_MEMBER(handles),
    KILN_MEMBER(resume),
    KILN_MEMBER(owner),
    KILN_MEMBER(processor),
    KILN_MEMBER(attention),
    KILN_MEMBER(hostStack),
    KILN_MEMBER(fsBase),
    KILN_MEMBER(gsBase),
    KILN_MEMBER(vectors),
    KILN_MEMBER(x87),
    KILN_MEMBER(refused),
    KILN_MEMBER(refusedWithoutTs),
    KILN_MEMBER(vectorsNext),
    KILN_MEMBER(mxcsr),
    KILN_MEMBER(x87Offset),
    KILN_MEMBER(x87Data),
    KILN_MEMBER(x87Page),
    KILN_MEMBER(x87DataSegment),
    KILN_MEMBER(hostMxcsr),
    KILN_MEMBER(x87DataSelector),
    KILN_MEMBER(surroundings),
    KILN_MEMBER(segmentsVersion),
#define KILN_SEGMENT(n, name)                                                                       \
    KILN_PART(segments[n].base, name ".base"), KILN_PART(segments[n].readEnd, name ".readEnd"),     \
        KILN_PART(segments[n].writeEnd, name ".writeEnd"), KILN_PART(downward[n].low, name ".low"), \
        KILN_PART(downward[n].readHigh, name ".readHigh"),                                          \
        KILN_PART(downward[n].writeHigh, name ".writeHigh")
    KILN_SEGMENT(0, "es"),
    KILN_SEGMENT(1, "cs"),
    KILN_SEGMENT(2, "ss"),
    KILN_SEGMENT(3, "ds"),
    KILN_SEGMENT(4, "fs"),
    KILN_SEGMENT(5, "gs"),
#undef KILN_SEGMENT
#undef KILN_PART
};
#undef KILN_MEMBER
constexpr const char* kGpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

// A place at this distance from the frame; nullopt: none that has a name.
std::optional<std::string> frameName(int64_t distance) {
    switch (distance) {
        case Tlb::kReadTag: return "readTag";
        case Tlb::kWriteTag: return "writeTag";
        case Tlb::kAddend: return "addend";
        case int64_t(kPageMarks): return "pageMarks";
        case int64_t(kJumpTable + offsetof(JumpTarget, rip)): return "jumps.rip";
        case int64_t(kJumpTable + offsetof(JumpTarget, host)): return "jumps.host";
        default: break;
    }
    for (unsigned n = 0; n < 16; n++) {
        const int64_t inside = distance - int64_t(HostFrame::gprAt(n));
        if (inside >= 0 && inside < 8) return inside ? fmt::format("{}+{}", kGpr[n], inside) : kGpr[n];
    }
    for (const FrameMember& m : kMembers) {
        if (distance < int64_t(m.offset) || distance >= int64_t(m.offset + m.size)) continue;
        const auto inside = unsigned(distance - int64_t(m.offset));
        return inside ? fmt::format("{}+{}", m.name, inside) : m.name;
    }
    return {};
}

struct Decoded {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    const ZydisDecodedOperand* memory() const {
        for (unsigned n = 0; n < z.operand_count_visible; n++)
            if (operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY) return &operands[n];
        return nullptr;
    }
    // Of a direct jump or call.
    std::optional<uint64_t> target(uint64_t at) const {
        if (z.operand_count_visible == 0 || operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            !operands[0].imm.is_relative)
            return {};
        return at + z.length + uint64_t(operands[0].imm.value.s);
    }
};

const ZydisDecoder& decoder() {
    static const ZydisDecoder d = [] {
        ZydisDecoder made;
        ZydisDecoderInit(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
        return made;
    }();
    return d;
}

std::string plainText(const Decoded& d, uint64_t at) {
    static const ZydisFormatter formatter = [] {
        ZydisFormatter f;
        ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
        ZydisFormatterSetProperty(&f, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
        ZydisFormatterSetProperty(&f, ZYDIS_FORMATTER_PROP_FORCE_SIZE, ZYAN_TRUE);
        return f;
    }();
    char text[160];
    ZydisFormatterFormatInstruction(&formatter, &d.z, d.operands, d.z.operand_count_visible, text,
                                    sizeof text, at, nullptr);
    return text;
}

void replaceBetween(std::string& s, char open, char close, const std::string& by) {
    const size_t from = s.find(open), to = s.rfind(close);
    if (from != std::string::npos && to != std::string::npos) s.replace(from + 1, to - from - 1, by);
}

bool within(const HostCode::Part& p, uint64_t at) { return at >= p.at && at < p.at + p.bytes.size(); }

}  // namespace

bool HostListing::isNumbered(uint64_t target) const {
    return target == callOut ||
           std::find(writesBeside.begin(), writesBeside.end(), target) != writesBeside.end();
}

std::vector<HostListing::Line> HostListing::lines(const HostCode::Part& part,
                                                  std::map<uint64_t, unsigned>& labels,
                                                  const HostCode& all) const {
    std::vector<Line> out;
    ZydisRegister atProcessor = ZYDIS_REGISTER_NONE;  // which register points there
    for (size_t at = 0; at < part.bytes.size();) {
        Decoded d;
        const uint64_t here = part.at + at;
        if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder(), part.bytes.data() + at, part.bytes.size() - at,
                                               &d.z, d.operands))) {
            out.push_back({here, fmt::format("db {:#04x}", part.bytes[at++])});
            continue;
        }
        std::string text = plainText(d, here);
        at += d.z.length;
        const std::string mnemonic = ZydisMnemonicGetString(d.z.mnemonic);
        if (const auto target = d.target(here)) {
            std::string name;
            if (isNumbered(*target) && at + 4 <= part.bytes.size()) {
                uint32_t number;
                std::memcpy(&number, &part.bytes[at], 4);
                at += 4;
                const char* how = *target == callOut ? "call out: " : "unless beside code, call out: ";
                out.push_back({here, how + site(number)});
                continue;
            }
            if (within(all.main, *target) || within(all.cold, *target))
                name = fmt::format("L{}", labels.at(*target));
            else if (auto known = names.find(*target); known != names.end())
                name = known->second;
            else
                name = "elsewhere";
            text = mnemonic + " " + name;
        } else if (const auto* m = d.memory()) {
            const bool indexed = m->mem.index != ZYDIS_REGISTER_NONE;
            const std::string index =
                indexed ? fmt::format("+{}*{}", ZydisRegisterGetString(m->mem.index), m->mem.scale) : "";
            if (m->mem.base == ZYDIS_REGISTER_RSP) {
                if (auto name = frameName(m->mem.disp.value)) replaceBetween(text, '[', ']', *name + index);
            } else if (m->mem.base == atProcessor && !indexed) {
                auto known = names.find(processor + uint64_t(m->mem.disp.value));
                if (m->mem.disp.value && known != names.end() && known->first - processor < processorSize)
                    replaceBetween(text, '[', ']', known->second);
            }
        }
        if (d.z.mnemonic == ZYDIS_MNEMONIC_MOV && d.operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            d.operands[1].mem.base == ZYDIS_REGISTER_RSP &&
            d.operands[1].mem.disp.value == int64_t(offsetof(HostFrame, processor)))
            atProcessor = d.operands[0].reg.value;
        // Addresses and numbers of marks differ from run to run.
        for (unsigned n = 0; n < d.z.operand_count_visible; n++) {
            const auto& op = d.operands[n];
            if (op.type != ZYDIS_OPERAND_TYPE_IMMEDIATE || op.imm.is_relative) continue;
            auto known = names.find(op.imm.value.u);
            if (op.size == 64 && known != names.end())
                text = text.substr(0, text.rfind(' ') + 1) + known->second;
        }
        out.push_back({here, text});
    }
    return out;
}

std::string HostListing::text(const HostCode& code, const std::function<std::string(unsigned)>& guest) const {
    // Labels by their order in the code.
    std::map<uint64_t, unsigned> labels;
    for (const HostCode::Part* part : {&code.main, &code.cold})
        for (size_t at = 0; at < part->bytes.size();) {
            Decoded d;
            if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder(), part->bytes.data() + at,
                                                   part->bytes.size() - at, &d.z, d.operands))) {
                at++;
                continue;
            }
            const auto target = d.target(part->at + at);
            at += d.z.length;
            if (target && isNumbered(*target)) at += 4;
            if (target && (within(code.main, *target) || within(code.cold, *target))) labels[*target] = 0;
        }
    unsigned number = 0;
    for (const HostCode::Part* part : {&code.main, &code.cold})
        for (auto& [at, label] : labels)
            if (within(*part, at)) label = ++number;

    std::string out;
    auto put = [&](const Line& line) {
        auto label = labels.find(line.at);
        out += fmt::format("{:>8} {}\n", label != labels.end() ? fmt::format("L{}:", label->second) : "",
                           line.text);
    };
    size_t next = 0;
    for (const Line& line : lines(code.main, labels, code)) {
        while (next < code.starts.size() && code.main.at + code.starts[next] <= line.at)
            out += guest(unsigned(next++));
        put(line);
    }
    while (next < code.starts.size()) out += guest(unsigned(next++));
    const auto cold = lines(code.cold, labels, code);
    if (!cold.empty()) out += "    apart:\n";
    for (const Line& line : cold) put(line);
    return out;
}

}  // namespace kiln
