// Several processors on one memory, in turns and on threads of their own: for tests.
#pragma once
#include <doctest/doctest.h>

#include <atomic>
#include <initializer_list>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "cpu/cpu.hpp"
#include "tests/cpu_bench.hpp"
#ifdef KILN_TRANSLATES
#include "translate/translator.hpp"
#endif

namespace kiln::test {

inline constexpr uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kPt = 0x4000, kApicPd = 0x5000,
                          kGdt = 0x6000, kIdt = 0x7000, kStacks = 0x80000, kCode = 0x20000,
                          kHandler = 0x21000, kData = 0x30000,
                          kWindow = 0x200000;  // linear; its page table is kPt

// Bytes of code, with numbers in little-endian order.
struct Code {
    std::vector<uint8_t> bytes;
    Code& operator()(std::initializer_list<uint8_t> b) {
        bytes.insert(bytes.end(), b.begin(), b.end());
        return *this;
    }
    Code& u32(uint64_t v) {
        for (unsigned i = 0; i < 4; i++) bytes.push_back(uint8_t(v >> i * 8));
        return *this;
    }
    // An absolute address in ModRM and SIB form, `reg` in the ModRM byte.
    Code& at(unsigned reg, uint64_t address) { return (*this)({uint8_t(reg << 3 | 4), 0x25}).u32(address); }
    size_t here() const { return bytes.size(); }
    Code& jump(uint8_t opcode, size_t target) {
        return (*this)({opcode, uint8_t(int(target) - int(here()) - 2)});
    }
    void patch(size_t place) { bytes[place - 1] = uint8_t(here() - place); }  // of a short jump forward
};

// Processors in 64-bit mode with the first 2 MiB and the APIC's page mapped as they are, interrupts to
// kHandler, and a stack each; their translators share a store.
struct Gang {
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    PortBus ports;
    ApicBus bus;
    RamBlock ram{"gang", 1 << 20};
    struct One {
        std::unique_ptr<CodeCache> code;
        std::unique_ptr<LocalApic> apic;
        std::unique_ptr<Cpu> cpu;
        std::unique_ptr<HotCode> translator;
    };
    std::vector<One> all;
    bool threaded;

    Gang(unsigned count, bool threads, std::optional<TranslatorOptions> options = chosenTranslator())
        : threaded(threads) {
        if (threads) memory.threads.expect(count);
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        writeTables();
        for (unsigned n = 0; n < count; n++) add(n);
#ifdef KILN_TRANSLATES
        if (!options) return;
        const auto store = Translator::makeStore(*options, memory, true);
        for (One& o : all) o.translator = std::make_unique<Translator>(*o.cpu, store);
#endif
    }
    template <class T>
    void put(uint64_t at, T v) {
        memory.write<T>(PhysAddr(at), v);
    }
    template <class T>
    T get(uint64_t at) {
        return memory.read<T>(PhysAddr(at));
    }
    void writeTables() {
        put<uint64_t>(kPml4, kPdpt | 7);
        put<uint64_t>(kPdpt, kPd | 7);
        put<uint64_t>(kPdpt + 24, kApicPd | 7);
        put<uint64_t>(kPd, 0x87);
        put<uint64_t>(kPd + 8, kPt | 7);
        put<uint64_t>(kApicPd + 0x1f7 * 8, 0xfee00087);
        put<uint64_t>(kGdt + 8, 0x00209b0000000000);
        for (unsigned v = 0; v < 256; v++) {
            put<uint64_t>(kIdt + v * 16,
                          (kHandler & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (kHandler >> 16) << 48);
            put<uint64_t>(kIdt + v * 16 + 8, 0);
        }
    }
    void add(unsigned n) {
        One& o = all.emplace_back();
        o.code = std::make_unique<CodeCache>(memory, n);
        o.apic = std::make_unique<LocalApic>(clock, bus, n, n == 0, [] { return uint64_t(0); });
        o.cpu = std::make_unique<Cpu>(
            CpuPorts{memory, ports, *o.apic, clock, log, *o.code, [](const std::string&) {}}, n);
        if (threaded) o.apic->onAttention = [] {};
        o.apic->ioWrite(0xf0, 4, 0x1ff);
        Cpu& c = *o.cpu;
        c.setCr4(cr4::PAE | cr4::OSFXSR);
        c.setEfer(efer::LME);
        c.setCr3(kPml4);
        c.setCr0(cr0::PE | cr0::PG | cr0::NE | cr0::WP);
        c.seg[Cs] = Segment{.selector = 8, .rights = 0xa09b, .limit = ~0u};
        for (SegReg r : {Es, Ss, Ds, Fs, Gs}) c.seg[r] = Segment{.rights = 0xc093, .limit = ~0u};
        c.gdtr = {kGdt, 15};
        c.idtr = {kIdt, 4095};
        c.gpr[Rsp] = kStacks + (n + 1) * 0x1000;
        c.setCpl(0);
        c.waitingForSipi = false;
    }
    void program(unsigned n, uint64_t at) {
        all[n].cpu->rip = at;
        all[n].cpu->halted = false;
    }
    void load(uint64_t at, const Code& code) {
        memory.write(PhysAddr(at), code.bytes.data(), code.bytes.size());
    }

    bool over(const Cpu& c) const { return c.idle() && !c.wakeable(); }
    // Until every processor halts with interrupts off, or waits for a start-up message.
    void run() {
        if (!threaded) return runInTurns();
        std::vector<std::thread> hosts;
        std::atomic<unsigned> busy{unsigned(all.size())};
        for (unsigned n = 0; n < all.size(); n++) hosts.emplace_back([&, n] { runThread(n, busy); });
        for (auto& h : hosts) h.join();
    }
    void runInTurns() {
        for (unsigned round = 0; round < 2'000'000; round++) {
            bool any = false;
            for (One& o : all)
                if (!over(*o.cpu)) any = true, o.cpu->run(97 + round % 13);
            if (!any) return;
        }
        FAIL("no end");
    }
    void runThread(unsigned n, std::atomic<unsigned>& busy) {
        Cpu& c = *all[n].cpu;
        GuestThreads& t = memory.threads;
        bool finished = false;
        while (busy) {
            t.enter(n);
            while (!over(c)) {
                c.run(1000);
                if (t.wanted()) t.exit(n), t.enter(n);
            }
            t.exit(n);
            if (!finished && (c.waitingForSipi || !c.flags.test(flag::IF))) finished = true, busy--;
            std::this_thread::yield();
        }
        t.vacate(n);
    }
};

}  // namespace kiln::test
