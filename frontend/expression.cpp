#include "frontend/expression.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace kiln {

namespace {

struct Register {
    std::string_view name;
    uint64_t (*read)(const Cpu&);
};

template <Gpr R>
uint64_t wide(const Cpu& c) {
    return c.gpr[R];
}
template <Gpr R>
uint64_t narrow(const Cpu& c) {
    return uint32_t(c.gpr[R]);
}
template <SegReg S>
uint64_t selector(const Cpu& c) {
    return c.seg[S].selector;
}

uint64_t flagsOf(const Cpu& c) { return c.flags.value(); }
uint64_t linearRip(const Cpu& c) { return c.code64() ? c.rip : uint32_t(c.seg[Cs].base + c.rip); }

constexpr Register kRegisters[] = {
    {"rax", wide<Rax>},
    {"rbx", wide<Rbx>},
    {"rcx", wide<Rcx>},
    {"rdx", wide<Rdx>},
    {"rsi", wide<Rsi>},
    {"rdi", wide<Rdi>},
    {"rbp", wide<Rbp>},
    {"rsp", wide<Rsp>},
    {"r8", wide<R8>},
    {"r9", wide<R9>},
    {"r10", wide<R10>},
    {"r11", wide<R11>},
    {"r12", wide<R12>},
    {"r13", wide<R13>},
    {"r14", wide<R14>},
    {"r15", wide<R15>},
    {"eax", narrow<Rax>},
    {"ebx", narrow<Rbx>},
    {"ecx", narrow<Rcx>},
    {"edx", narrow<Rdx>},
    {"esi", narrow<Rsi>},
    {"edi", narrow<Rdi>},
    {"ebp", narrow<Rbp>},
    {"esp", narrow<Rsp>},
    {"cs", selector<Cs>},
    {"ss", selector<Ss>},
    {"ds", selector<Ds>},
    {"es", selector<Es>},
    {"fs", selector<Fs>},
    {"gs", selector<Gs>},
    {"rip", [](const Cpu& c) { return c.rip; }},
    {"eip", [](const Cpu& c) { return c.rip; }},
    {"pc", linearRip},
    {"rflags", flagsOf},
    {"eflags", flagsOf},
    {"cr0", [](const Cpu& c) { return c.cr0; }},
    {"cr2", [](const Cpu& c) { return c.cr2; }},
    {"cr3", [](const Cpu& c) { return c.cr3; }},
    {"cr4", [](const Cpu& c) { return c.cr4; }},
    {"cr8", [](const Cpu& c) { return uint64_t(c.io.apic.cr8()); }},
    {"efer", [](const Cpu& c) { return c.efer; }},
    {"cs.base", [](const Cpu& c) { return c.seg[Cs].base; }},
    {"ss.base", [](const Cpu& c) { return c.seg[Ss].base; }},
    {"ds.base", [](const Cpu& c) { return c.seg[Ds].base; }},
    {"es.base", [](const Cpu& c) { return c.seg[Es].base; }},
    {"fs.base", [](const Cpu& c) { return c.seg[Fs].base; }},
    {"gs.base", [](const Cpu& c) { return c.seg[Gs].base; }},
    {"gdt.base", [](const Cpu& c) { return c.gdtr.base; }},
    {"idt.base", [](const Cpu& c) { return c.idtr.base; }},
};

struct Failure {
    std::string why;
};

class Parser {
  public:
    Parser(std::string_view text, const Cpu& cpu) : left_(text), cpu_(cpu) {}

    uint64_t all() {
        const uint64_t v = sum();
        skipBlanks();
        if (!left_.empty()) throw Failure{"'" + std::string(left_.substr(0, 40)) + "' makes no sense here"};
        return v;
    }

  private:
    static constexpr unsigned kDeepest = 50;

    void skipBlanks() {
        while (!left_.empty() && std::isspace(static_cast<unsigned char>(left_[0]))) left_.remove_prefix(1);
    }

    // The next character if it is one of these, else 0.
    char take(std::string_view wanted) {
        skipBlanks();
        if (left_.empty() || wanted.find(left_[0]) == wanted.npos) return 0;
        const char c = left_[0];
        left_.remove_prefix(1);
        return c;
    }

    // From weak to strong: + -, & | ^, * / %, as QEMU binds them.
    uint64_t sum() {
        uint64_t v = logic();
        while (char op = take("+-")) v = op == '+' ? v + logic() : v - logic();
        return v;
    }

    uint64_t logic() {
        uint64_t v = product();
        while (char op = take("&|^")) {
            const uint64_t w = product();
            v = op == '&' ? v & w : op == '|' ? v | w : v ^ w;
        }
        return v;
    }

    uint64_t product() {
        uint64_t v = unary();
        while (char op = take("*/%")) {
            const uint64_t w = unary();
            if (op != '*' && !w) throw Failure{"division by zero"};
            v = op == '*' ? v * w : op == '/' ? v / w : v % w;
        }
        return v;
    }

    uint64_t unary() {
        if (++depth_ > kDeepest) throw Failure{"the expression is too deep"};
        uint64_t v;
        if (take("+"))
            v = unary();
        else if (take("-"))
            v = 0 - unary();
        else if (take("~"))
            v = ~unary();
        else
            v = atom();
        depth_--;
        return v;
    }

    uint64_t atom() {
        if (take("(")) {
            const uint64_t v = sum();
            if (!take(")")) throw Failure{"')' is missing"};
            return v;
        }
        if (take("$")) return registerValue();
        if (take("'")) return character();
        return number();
    }

    uint64_t registerValue() {
        const size_t end =
            std::min(left_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789."), left_.size());
        const std::string_view name = left_.substr(0, end);
        left_.remove_prefix(end);
        for (const Register& r : kRegisters)
            if (r.name == name) return r.read(cpu_);
        throw Failure{"there is no register '$" + std::string(name) + "'"};
    }

    uint64_t character() {
        if (left_.size() < 2 || left_[1] != '\'') throw Failure{"a character stands between two quotes"};
        const auto c = static_cast<unsigned char>(left_[0]);
        left_.remove_prefix(2);
        return c;
    }

    uint64_t number() {
        int base = 10;
        if (left_.starts_with("0x") || left_.starts_with("0X"))
            base = 16, left_.remove_prefix(2);
        else if (left_.size() > 1 && left_[0] == '0')
            base = 8;
        uint64_t v = 0;
        auto [stop, error] = std::from_chars(left_.data(), left_.data() + left_.size(), v, base);
        if (error == std::errc::result_out_of_range) throw Failure{"the number is too large"};
        if (error != std::errc()) throw Failure{"a number or $register is missing"};
        left_.remove_prefix(size_t(stop - left_.data()));
        return v;
    }

    std::string_view left_;
    const Cpu& cpu_;
    unsigned depth_ = 0;
};

}  // namespace

bool evaluate(std::string_view text, const Cpu& cpu, uint64_t& value, std::string& error) {
    try {
        value = Parser(text, cpu).all();
        return true;
    } catch (const Failure& f) {
        error = f.why;
        return false;
    }
}

}  // namespace kiln
