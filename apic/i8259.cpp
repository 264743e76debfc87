#include "apic/i8259.hpp"

namespace kiln {

namespace {
constexpr unsigned kCascade = 2;
// Timer, keyboard, cascade, RTC and coprocessor inputs are edge-triggered for ever (ICH9, 13.4.10).
constexpr uint8_t kElcrWritable[2] = {0xF8, 0xDE};
}  // namespace

// -- one 8259A

void I8259::reset() {
    irr_ = isr_ = imr_ = elcr_ = 0;
    base_ = cascade_ = 0;
    lowest_ = 7;
    nextIcw_ = 0;
    icw4Needed_ = single_ = ltim_ = false;
    autoEoi_ = rotateOnAutoEoi_ = specialFullyNested_ = false;
    specialMask_ = readIsr_ = poll_ = false;
    spurious = false;
}

void I8259::state(StateVisitor& visit) {
    visit("irr", irr_);
    visit("isr", isr_);
    visit("imr", imr_);
    visit("lines", lines_);
    visit("elcr", elcr_);
    visit("base", base_);
    visit("cascade", cascade_);
    visit("lowest", lowest_);
    visit("nextIcw", nextIcw_);
    visit("icw4Needed", icw4Needed_);
    visit("single", single_);
    visit("ltim", ltim_);
    visit("autoEoi", autoEoi_);
    visit("rotateOnAutoEoi", rotateOnAutoEoi_);
    visit("specialFullyNested", specialFullyNested_);
    visit("specialMask", specialMask_);
    visit("readIsr", readIsr_);
    visit("poll", poll_);
}

// The cascade input follows the second chip: its INT line drops and rises with every acknowledge by itself.
bool I8259::levelTriggered(unsigned n) const {
    return ltim_ || (elcr_ >> n & 1) || (master_ && n == kCascade && !single_);
}

// An edge, too, asks only as long as its line stays high: a driver that polls the data away takes the request
// back.
void I8259::setInput(unsigned n, bool level) {
    uint8_t bit = uint8_t(1 << n);
    bool rising = level && !(lines_ & bit);
    lines_ = uint8_t(level ? lines_ | bit : lines_ & ~bit);
    if (!level)
        irr_ &= uint8_t(~bit);
    else if (rising || levelTriggered(n))
        irr_ |= bit;
}

void I8259::setElcr(uint8_t value) {
    elcr_ = value;
    irr_ = uint8_t((irr_ & ~elcr_) | (lines_ & elcr_));
}

int I8259::highest(uint8_t set) const {
    for (unsigned i = 1; i <= 8; i++) {
        unsigned input = (lowest_ + i) & 7;
        if (set >> input & 1) return int(input);
    }
    return -1;
}

int I8259::interrupting() const {
    if (nextIcw_) return -1;
    int asking = highest(uint8_t(irr_ & ~imr_));
    if (asking < 0) return -1;
    uint8_t blocking = isr_;
    if (specialMask_) blocking &= uint8_t(~imr_);
    if (specialFullyNested_ && master_) blocking &= uint8_t(~(1 << kCascade));
    int serving = highest(blocking);
    bool mayInterrupt = serving < 0 || priority(unsigned(asking)) < priority(unsigned(serving));
    return mayInterrupt ? asking : -1;
}

int I8259::acknowledge() {
    int input = interrupting();
    spurious = input < 0;
    if (spurious) return 7;
    uint8_t bit = uint8_t(1 << input);
    if (!levelTriggered(unsigned(input))) irr_ &= uint8_t(~bit);
    if (!autoEoi_)
        isr_ |= bit;
    else if (rotateOnAutoEoi_)
        lowest_ = uint8_t(input);
    return input;
}

uint8_t I8259::read(unsigned a0) {
    if (poll_) {
        poll_ = false;
        int input = acknowledge();
        return spurious ? 0 : uint8_t(0x80 | input);
    }
    if (a0) return imr_;
    return readIsr_ ? isr_ : irr_;
}

void I8259::write(unsigned a0, uint8_t value) {
    if (!a0) {
        if (value & 0x10)
            icw1(value);
        else if (value & 0x08)
            ocw3(value);
        else
            ocw2(value);
        return;
    }
    switch (nextIcw_) {
        case 2:
            base_ = value;
            nextIcw_ = single_ ? (icw4Needed_ ? 4 : 0) : 3;
            break;
        case 3:
            cascade_ = value;
            nextIcw_ = icw4Needed_ ? 4 : 0;
            break;
        case 4:
            autoEoi_ = value & 2;
            specialFullyNested_ = value & 0x10;
            nextIcw_ = 0;
            break;
        default: imr_ = value; break;
    }
}

void I8259::icw1(uint8_t value) {
    icw4Needed_ = value & 1;
    single_ = value & 2;
    ltim_ = value & 8;
    uint8_t held = 0;  // edges are forgotten, levels are not
    for (unsigned n = 0; n < 8; n++)
        if (levelTriggered(n)) held |= uint8_t(lines_ & 1 << n);
    irr_ = held;
    imr_ = isr_ = 0;
    lowest_ = 7;
    autoEoi_ = rotateOnAutoEoi_ = specialFullyNested_ = false;
    specialMask_ = readIsr_ = poll_ = false;
    nextIcw_ = 2;
}

void I8259::endOfInterrupt(int input, bool rotate) {
    if (input < 0) return;
    isr_ &= uint8_t(~(1 << input));
    if (rotate) lowest_ = uint8_t(input);
}

void I8259::ocw2(uint8_t value) {
    int level = value & 7;
    uint8_t unmaskedInService = uint8_t(specialMask_ ? isr_ & ~imr_ : isr_);
    switch (value >> 5) {  // R, SL, EOI
        case 0: rotateOnAutoEoi_ = false; break;
        case 4: rotateOnAutoEoi_ = true; break;
        case 1: endOfInterrupt(highest(unmaskedInService), false); break;
        case 5: endOfInterrupt(highest(unmaskedInService), true); break;
        case 3: endOfInterrupt(level, false); break;
        case 7: endOfInterrupt(level, true); break;
        case 6: lowest_ = uint8_t(level); break;
        default: break;  // no operation
    }
}

void I8259::ocw3(uint8_t value) {
    if (value & 0x40) specialMask_ = value & 0x20;
    if (value & 0x04) poll_ = true;
    if (value & 0x02) readIsr_ = value & 1;
}

// -- the pair

I8259Pair::I8259Pair() {
    for (unsigned n = 0; n < 16; n++) {
        pins_[n] = IrqInput([this, n](bool level) {
            if (n == kCascade) return;
            (n < 8 ? master_ : slave_).setInput(n & 7, level);
            update();
        });
    }
}

void I8259Pair::reset() {
    master_.reset();
    slave_.reset();
    update();
}

void I8259Pair::state(StateVisitor& visit) {
    master_.state(visit);
    slave_.state(visit);
    visit("intr", intr_);
}

void I8259Pair::setIntr(bool level) {
    if (level == intr_) return;
    intr_ = level;
    if (onIntr) onIntr(level);
}

void I8259Pair::update() {
    master_.setInput(kCascade, slave_.intr());
    setIntr(master_.intr());
}

uint8_t I8259Pair::acknowledge() {
    int input = master_.acknowledge();
    uint8_t vector = master_.vector(unsigned(input));
    const bool cascaded = input == kCascade && !master_.spurious;
    if (cascaded) {
        input = slave_.acknowledge();
        vector = slave_.vector(unsigned(input));
    }
    if (!(cascaded ? slave_ : master_).spurious) acknowledged_[unsigned(input) + (cascaded ? 8 : 0)]++;
    setIntr(false);
    update();
    return vector;
}

uint8_t I8259Pair::readByte(uint64_t offset) {
    if (offset >= 6) return 0xFF;
    if (offset >= 4) return (offset == 4 ? master_ : slave_).elcr();
    uint8_t value = (offset < 2 ? master_ : slave_).read(offset & 1);
    update();
    return value;
}

DirectRegister I8259Pair::direct(uint64_t offset, unsigned size, bool write) {
    if (write || size != 1 || (offset != 1 && offset != 3)) return {};
    return (offset == 1 ? master_ : slave_).mask();
}

void I8259Pair::writeByte(uint64_t offset, uint8_t value) {
    if (offset >= 6) return;
    if (offset >= 4)
        (offset == 4 ? master_ : slave_).setElcr(value & kElcrWritable[offset - 4]);
    else
        (offset < 2 ? master_ : slave_).write(offset & 1, value);
    update();
}

}  // namespace kiln
