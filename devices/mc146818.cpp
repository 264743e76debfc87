#include "devices/mc146818.hpp"

#include <chrono>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum Register : uint8_t {
    kSeconds,
    kSecondsAlarm,
    kMinutes,
    kMinutesAlarm,
    kHours,
    kHoursAlarm,
    kWeekday,
    kDay,
    kMonth,
    kYear,
    kA,
    kB,
    kC,
    kD,
    kCentury = 0x32,  // where PC firmware keeps it
};
constexpr uint8_t kUip = 0x80;                                                    // A
constexpr uint8_t kSet = 0x80, kBinary = 0x04, k24Hours = 0x02;                   // B
constexpr uint8_t kIrqf = 0x80, kPeriodic = 0x40, kAlarm = 0x20, kUpdate = 0x10;  // C; enables in B
constexpr uint8_t kSquareWave = 0x08, kValid = 0x80, kPm = 0x80;
constexpr Nanos kUipLead = 244'000;  // UIP is set this long before an update

}  // namespace

Mc146818::Mc146818(Clock& clock, Gate& gate, IrqInput& irq8)
    : Mc146818(clock, gate.calendarSeconds(), irq8) {}

Mc146818::Mc146818(Clock& clock, int64_t calendarSeconds, IrqInput& irq8)
    : clock_(clock),
      irq8_(irq8),
      updateTimer_(clock, [this] { catchUp(); }),
      periodicTimer_(clock, [this] { periodic(); }) {
    ram_[kA] = 0x26;  // 32,768 Hz, 1024 interrupts a second
    ram_[kB] = k24Hours;
    ram_[kD] = kValid;
    setCalendar(calendarSeconds);
    nextUpdate_ = clock_.now() + kSecond;
    updateTimer_.arm(nextUpdate_);
}

void Mc146818::reset() {
    ram_[kB] &= uint8_t(~(kPeriodic | kAlarm | kUpdate | kSquareWave));
    ram_[kC] = 0;
    index_ = extendedIndex_ = 0;
    irqEnabled_ = true;
    armPeriodic();
    updateIrq();
}

void Mc146818::state(StateVisitor& visit) {
    visit("ram", ram_);
    visit("index", index_);
    visit("extendedIndex", extendedIndex_);
    visit("nextUpdate", nextUpdate_);
    visit("seenPeriods", seenPeriods_);
    visit("irqEnabled", irqEnabled_);
    visitTimer(visit, "updateTimer", updateTimer_);
    visitTimer(visit, "periodicTimer", periodicTimer_);
}

// -- the calendar, kept in the guest's own format

unsigned Mc146818::decode(uint8_t value) const {
    return ram_[kB] & kBinary ? value : (value >> 4) * 10 + (value & 15);
}

uint8_t Mc146818::encode(unsigned value) const {
    return uint8_t(ram_[kB] & kBinary ? value : (value / 10) << 4 | value % 10);
}

void Mc146818::setCalendar(int64_t secondsSince1970) {
    using namespace std::chrono;
    sys_seconds time{seconds(secondsSince1970)};
    auto day = floor<days>(time);
    year_month_day date(day);
    hh_mm_ss clock(time - day);
    unsigned hour = unsigned(clock.hours().count());
    unsigned year = unsigned(int(date.year()));
    bool pm = hour >= 12;
    ram_[kSeconds] = encode(unsigned(clock.seconds().count()));
    ram_[kMinutes] = encode(unsigned(clock.minutes().count()));
    ram_[kHours] =
        ram_[kB] & k24Hours ? encode(hour) : uint8_t(encode(hour % 12 ? hour % 12 : 12) | (pm ? kPm : 0));
    ram_[kWeekday] = encode(weekday(day).c_encoding() + 1);
    ram_[kDay] = encode(unsigned(date.day()));
    ram_[kMonth] = encode(unsigned(date.month()));
    ram_[kYear] = encode(year % 100);
    ram_[kCentury] = uint8_t((year / 1000 % 10) << 4 | (year / 100 % 10));  // BCD in either format
}

unsigned Mc146818::daysInMonth() const {
    static constexpr uint8_t kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned month = decode(ram_[kMonth]);
    unsigned year = (ram_[kCentury] >> 4) * 1000 + (ram_[kCentury] & 15) * 100 + decode(ram_[kYear]);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && leap) return 29;
    return month >= 1 && month <= 12 ? kDays[month - 1] : 31;
}

// True when the field wrapped and the next one counts.
bool Mc146818::increment(uint8_t reg, unsigned first, unsigned last) {
    unsigned value = decode(ram_[reg]) + 1;
    bool wrapped = value > last;
    ram_[reg] = encode(wrapped ? first : value);
    return wrapped;
}

bool Mc146818::incrementHour() {
    if (ram_[kB] & k24Hours) return increment(kHours, 0, 23);
    bool pm = ram_[kHours] & kPm;
    unsigned hour = decode(ram_[kHours] & 0x7F) + 1;
    if (hour == 12) pm = !pm;
    if (hour > 12) hour = 1;
    ram_[kHours] = uint8_t(encode(hour) | (pm ? kPm : 0));
    return hour == 12 && !pm;
}

void Mc146818::advanceTime() {
    if (!increment(kSeconds, 0, 59) || !increment(kMinutes, 0, 59) || !incrementHour()) return;
    increment(kWeekday, 1, 7);
    if (!increment(kDay, 1, daysInMonth()) || !increment(kMonth, 1, 12) || !increment(kYear, 0, 99)) return;
    unsigned century = (ram_[kCentury] >> 4) * 10 + (ram_[kCentury] & 15) + 1;
    ram_[kCentury] = uint8_t((century / 10 % 10) << 4 | century % 10);
}

bool Mc146818::alarmMatches() const {
    for (uint8_t field : {kSeconds, kMinutes, kHours}) {
        uint8_t alarm = ram_[field + 1];
        bool any = (alarm & 0xC0) == 0xC0;
        if (!any && alarm != ram_[field]) return false;
    }
    return true;
}

// -- updates, once a second

bool Mc146818::updating() const {
    bool dividerHeld = (ram_[kA] & 0x60) == 0x60;
    return !(ram_[kB] & kSet) && !dividerHeld;
}

void Mc146818::update() {
    if (!updating()) return;
    advanceTime();
    bool alarm = alarmMatches();
    if (alarm && onAlarm) onAlarm();
    raise(uint8_t(kUpdate | (alarm ? kAlarm : 0)));
}

// Time may have passed without the timer having been served yet.
void Mc146818::catchUp() {
    while (clock_.now() >= nextUpdate_) {
        nextUpdate_ += kSecond;
        update();
    }
    updateTimer_.arm(nextUpdate_);
}

// -- interrupts

void Mc146818::raise(uint8_t flags) {
    ram_[kC] |= flags;
    updateIrq();
}

void Mc146818::updateIrq() {
    bool asking = ram_[kC] & ram_[kB] & (kPeriodic | kAlarm | kUpdate);
    ram_[kC] = uint8_t((ram_[kC] & ~kIrqf) | (asking ? kIrqf : 0));
    irq8_.set(asking && irqEnabled_);
}

void Mc146818::setIrqEnabled(bool enabled) {
    irqEnabled_ = enabled;
    updateIrq();
}

Nanos Mc146818::period() const {
    unsigned rate = ram_[kA] & 15;
    if (!rate || (ram_[kA] & 0x60) == 0x60) return 0;
    unsigned shift = rate <= 2 ? rate + 6 : rate - 1;  // 1 and 2 are 256 and 128 Hz
    return (kSecond << shift) / 32768;
}

void Mc146818::periodic() {
    raise(kPeriodic);
    armPeriodic();
}

// A flag that is set already needs no timer: the line stays high until register C is read.
void Mc146818::armPeriodic() {
    Nanos p = period();
    if (!p || !(ram_[kB] & kPeriodic) || (ram_[kC] & kPeriodic)) return periodicTimer_.disarm();
    periodicTimer_.arm((clock_.now() / p + 1) * p);
}

// -- registers

uint8_t Mc146818::readRegister(uint8_t index) {
    catchUp();
    switch (index) {
        case kA: {
            bool uip = updating() && nextUpdate_ - clock_.now() <= kUipLead;
            return uint8_t((ram_[kA] & ~kUip) | (uip ? kUip : 0));
        }
        case kC: {
            Nanos p = period();
            uint64_t periods = p ? clock_.now() / p : seenPeriods_;
            if (periods != seenPeriods_) raise(kPeriodic);  // polled without PIE
            seenPeriods_ = periods;
            uint8_t value = ram_[kC];
            ram_[kC] = 0;
            updateIrq();
            armPeriodic();
            return value;
        }
        default: return ram_[index];
    }
}

void Mc146818::writeRegister(uint8_t index, uint8_t value) {
    catchUp();
    switch (index) {
        case kA: {
            bool held = (ram_[kA] & 0x60) == 0x60;
            ram_[kA] = value & 0x7F;
            bool released = held && (ram_[kA] & 0x60) != 0x60;
            if (released) {  // the first update comes half a second after the divider starts
                nextUpdate_ = clock_.now() + kSecond / 2;
                updateTimer_.arm(nextUpdate_);
            }
            Nanos p = period();
            seenPeriods_ = p ? clock_.now() / p : 0;
            armPeriodic();
            break;
        }
        case kB:
            ram_[kB] = value & kSet ? uint8_t(value & ~kUpdate) : value;  // SET clears UIE
            updateIrq();
            armPeriodic();
            break;
        case kC:
        case kD: break;
        default: ram_[index] = value; break;
    }
}

uint8_t Mc146818::readByte(uint64_t offset) {
    switch (offset) {
        case 1: return readRegister(index_);
        case 2: return extendedIndex_;
        case 3: return ram_[0x80 | extendedIndex_];
        default: return 0xFF;  // port 0x70 is write-only
    }
}

DirectRegister Mc146818::direct(uint64_t offset, unsigned size, bool write) {
    if (size != 1 || offset % 2) return {};
    if (!write) return offset ? DirectRegister::at(extendedIndex_) : DirectRegister::always(0xFF);
    return DirectRegister::at(offset ? extendedIndex_ : index_, 0x7F);
}

void Mc146818::writeByte(uint64_t offset, uint8_t value) {
    switch (offset) {
        case 0: index_ = value & 0x7F; break;
        case 1: writeRegister(index_, value); break;
        case 2: extendedIndex_ = value & 0x7F; break;
        case 3: ram_[0x80 | extendedIndex_] = value; break;
        default: break;
    }
}

}  // namespace kiln
