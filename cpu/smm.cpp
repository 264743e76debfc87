// System management mode (SDM vol. 3, chapter 32): SMI, the state save map, RSM. A processor with Intel 64
// has the map of the AMD64 manual (vol. 2, table 10-1; revision 20064h), which is what the firmware of
// virtual machines looks for; one without has Intel's 32-bit map, revision 20000h. What neither manual lists
// (hidden parts of segments in the 32-bit map, whether NMIs were blocked) lies in places they reserve.
//
// While `smm` is set, addresses of SMRAM lead this processor, and no other, to the memory behind them; A20 is
// not masked. Not modelled: the dual-monitor treatment, SMRRs, I/O restart of INS and OUTS.
#include "cpu/cpu.hpp"

namespace kiln {

namespace {

constexpr uint64_t kMapOffset = 0xfe00;  // of the map from SMBASE
constexpr uint32_t kRevision64 = 0x20064, kRevision32 = 0x20000;
constexpr uint8_t kRestartIo = 0xff;

// What the map holds besides the architectural state.
struct SaveMap {
    CpuState state;
    uint64_t rflags = 2;
    uint32_t revision = 0, ioState = 0, pendingDebug = 0;
    uint64_t ioRip = 0, ioRcx = 0, ioRsi = 0, ioRdi = 0;
    uint8_t restartIo = 0, restartHalt = 0, nmiBlocked = 0;
};

// The last 512 bytes of the 64 KiB at SMBASE, seen by their offsets from there.
class Image {
  public:
    explicit Image(bool loading) : loading(loading) {}
    template <class T, class V>
    void operator()(unsigned offset, V& value) {
        T v = T(value);
        if (loading)
            std::memcpy(&v, &bytes[offset], sizeof v), value = V(v);
        else
            std::memcpy(&bytes[offset], &v, sizeof v);
    }
    std::array<uint8_t, 512> bytes{};
    const bool loading;
};

void segment64(Image& at, unsigned offset, Segment& s) {
    at.operator()<uint16_t>(offset, s.selector);
    at.operator()<uint16_t>(offset + 2, s.rights);
    at.operator()<uint32_t>(offset + 4, s.limit);
    at.operator()<uint64_t>(offset + 8, s.base);
}

void visit64(Image& at, SaveMap& m) {
    CpuState& s = m.state;
    for (unsigned i = 0; i < 6; i++) segment64(at, i * 16, s.seg[i]);
    at.operator()<uint32_t>(0x64, s.gdtr.limit);
    at.operator()<uint64_t>(0x68, s.gdtr.base);
    segment64(at, 0x70, s.ldtr);
    at.operator()<uint32_t>(0x84, s.idtr.limit);
    at.operator()<uint64_t>(0x88, s.idtr.base);
    segment64(at, 0x90, s.tr);
    at.operator()<uint64_t>(0xa0, m.ioRip);
    at.operator()<uint64_t>(0xa8, m.ioRcx);
    at.operator()<uint64_t>(0xb0, m.ioRsi);
    at.operator()<uint64_t>(0xb8, m.ioRdi);
    at.operator()<uint32_t>(0xc0, m.ioState);
    at.operator()<uint8_t>(0xc8, m.restartIo);
    at.operator()<uint8_t>(0xc9, m.restartHalt);
    at.operator()<uint8_t>(0xca, m.nmiBlocked);
    at.operator()<uint32_t>(0xcc, m.pendingDebug);
    at.operator()<uint64_t>(0xd0, s.efer);
    at.operator()<uint32_t>(0xfc, m.revision);
    at.operator()<uint32_t>(0x100, s.smbase);
    at.operator()<uint64_t>(0x148, s.cr4);
    at.operator()<uint64_t>(0x150, s.cr3);
    at.operator()<uint64_t>(0x158, s.cr0);
    at.operator()<uint64_t>(0x160, s.dr[7]);
    at.operator()<uint64_t>(0x168, s.dr[6]);
    at.operator()<uint64_t>(0x170, m.rflags);
    at.operator()<uint64_t>(0x178, s.rip);
    for (unsigned i = 0; i < 16; i++) at.operator()<uint64_t>(0x1f8 - i * 8, s.gpr.slot[i]);
}

void hidden32(Image& at, unsigned offset, Segment& s) {
    at.operator()<uint32_t>(offset, s.rights);
    at.operator()<uint32_t>(offset + 4, s.limit);
    at.operator()<uint32_t>(offset + 8, s.base);
}

void visit32(Image& at, SaveMap& m) {
    CpuState& s = m.state;
    at.operator()<uint32_t>(0xe0, m.ioRip);
    at.operator()<uint32_t>(0xe4, m.ioRcx);
    at.operator()<uint32_t>(0xe8, m.ioRsi);
    at.operator()<uint32_t>(0xec, m.ioRdi);
    at.operator()<uint32_t>(0xf8, s.smbase);
    at.operator()<uint32_t>(0xfc, m.revision);
    at.operator()<uint8_t>(0x100, m.restartIo);
    at.operator()<uint8_t>(0x102, m.restartHalt);
    at.operator()<uint32_t>(0x10c, m.pendingDebug);
    at.operator()<uint32_t>(0x110, m.nmiBlocked);
    at.operator()<uint32_t>(0x114, s.cr4);
    // SS would run into the I/O state at 1A4h.
    static constexpr unsigned kHidden[6] = {0x184, 0x190, 0x118, 0x12c, 0x138, 0x144};
    for (unsigned i = 0; i < 6; i++) {
        hidden32(at, kHidden[i], s.seg[i]);
        at.operator()<uint16_t>(0x1a8 + i * 4, s.seg[i].selector);
    }
    at.operator()<uint32_t>(0x154, s.idtr.limit);
    at.operator()<uint32_t>(0x158, s.idtr.base);
    hidden32(at, 0x15c, s.tr);
    at.operator()<uint32_t>(0x170, s.gdtr.limit);
    at.operator()<uint32_t>(0x174, s.gdtr.base);
    hidden32(at, 0x178, s.ldtr);
    at.operator()<uint32_t>(0x1a4, m.ioState);
    at.operator()<uint16_t>(0x1c0, s.ldtr.selector);
    at.operator()<uint16_t>(0x1c4, s.tr.selector);
    at.operator()<uint32_t>(0x1c8, s.dr[7]);
    at.operator()<uint32_t>(0x1cc, s.dr[6]);
    for (unsigned i = 0; i < 8; i++) at.operator()<uint32_t>(0x1d0 + i * 4, s.gpr.slot[i]);
    at.operator()<uint32_t>(0x1f0, s.rip);
    at.operator()<uint32_t>(0x1f4, m.rflags);
    at.operator()<uint32_t>(0x1f8, s.cr3);
    at.operator()<uint32_t>(0x1fc, s.cr0);
}

// The I/O instruction behind which the SMI came: the AMD64 field at FEC0h, or Intel's I/O state field.
uint32_t ioState(uint16_t port, unsigned size, bool in, bool wide) {
    if (wide) return uint32_t(port) << 16 | size << 4 | 2 | unsigned(in);
    return uint32_t(port) << 16 | unsigned(in) << 4 | size << 1 | 1;
}

}  // namespace

void Cpu::viewChanged() {
    a20Mask_ = paging_.a20Mask = smm ? ~0ull : a20Gate_;
    paging_.smm = smm;
}

void Cpu::enterSmm() {
    io.log(LogCategory::Cpu, "SMI at {:04x}:{:x}, smbase={:x}", seg[Cs].selector, rip, smbase);
    const bool wide = model.has(Feature::LM);
    SaveMap m;
    m.state = *this;
    m.rflags = flags.value();
    m.revision = wide ? kRevision64 : kRevision32;
    m.restartHalt = halted && !mwaiting;
    m.nmiBlocked = nmiBlocked;
    m.pendingDebug = pendingDebug;
    if (lastIo_.size) {
        m.ioRip = lastIo_.rip;
        m.ioRcx = gpr[Rcx], m.ioRsi = gpr[Rsi], m.ioRdi = gpr[Rdi];
        m.ioState = ioState(lastIo_.port, lastIo_.size, lastIo_.in, wide);
    }
    lastIo_ = {};
    smm = true;
    viewChanged();
    Image image(false);
    const PhysAddr at = physical(smbase + kMapOffset, Access::Write);
    io.memory.read(at, image.bytes.data(), image.bytes.size());
    wide ? visit64(image, m) : visit32(image, m);
    io.memory.write(at, image.bytes.data(), image.bytes.size());

    // Table 32-4.
    nmiBlocked = true;
    wake();
    pendingDebug = 0;
    flags.set(2);
    rip = 0x8000;
    cr0 &= ~(cr0::PE | cr0::EM | cr0::TS | cr0::PG);
    cr4 = efer = 0;
    dr[7] = dr7::kFixed;
    cpl = 0;
    for (Segment& s : seg) s = Segment{.rights = 0x8093, .limit = 0xffffffff};
    seg[Cs].selector = uint16_t(smbase >> 4);
    seg[Cs].base = smbase;
    debugRegistersChanged();
    modesChanged();
}

void Cpu::resumeFromSmm() {
    if (!smm) raise(kUD);
    const bool wide = model.has(Feature::LM);
    SaveMap m;
    m.state = *this;  // what the map does not hold stays as the handler left it
    Image image(true);
    io.memory.read(physical(smbase + kMapOffset, Access::Read), image.bytes.data(), image.bytes.size());
    wide ? visit64(image, m) : visit32(image, m);
    CpuState& s = m.state;

    const bool paging = s.cr0 & cr0::PG;
    const bool longPaging = paging && s.efer & efer::LME;
    const bool invalid = s.cr0 >> 32 || (paging && !(s.cr0 & cr0::PE)) ||
                         (s.cr0 & cr0::NW && !(s.cr0 & cr0::CD)) || s.cr4 & ~model.cr4Supported() ||
                         s.efer & ~(model.eferSupported() | efer::LMA) ||
                         (longPaging && (!(s.cr4 & cr4::PAE) || m.rflags & flag::VM));
    if (invalid) {
        io.shutdown("RSM with an invalid state");
        halted = true;
        return;
    }

    static_cast<CpuState&>(*this) = s;
    smm = false;
    viewChanged();
    efer = longPaging ? s.efer | efer::LMA : s.efer & ~efer::LMA;
    dr[6] = (dr[6] & (15 | dr6::BD | dr6::BS | dr6::BT)) | dr6::kFixed;
    dr[7] = (dr[7] & dr7::kWritable) | dr7::kFixed;
    flags.set(m.rflags);
    const bool protection = cr0 & cr0::PE;
    for (Segment* r : {&seg[0], &seg[1], &seg[2], &seg[3], &seg[4], &seg[5], &ldtr, &tr})
        r->unusable = protection && !r->present();
    cpl = !protection ? 0 : v86() ? 3 : seg[Ss].dpl();
    nmiBlocked = m.nmiBlocked;
    pendingDebug = m.pendingDebug;
    halted = m.restartHalt & 1;
    if (m.restartIo == kRestartIo && m.ioState) {
        rip = m.ioRip;
        gpr[Rcx] = m.ioRcx, gpr[Rsi] = m.ioRsi, gpr[Rdi] = m.ioRdi;
    }
    debugRegistersChanged();
    modesChanged();
    if (paging_.enabled && paging_.pae && !longMode()) try {
            loadPdptes(cr3);
        } catch (const Fault&) {
            io.shutdown("RSM with reserved bits in a page-directory-pointer entry");
            halted = true;
        }
}

}  // namespace kiln
