#include "cpu/cpu_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <stdexcept>

#include "cpu/named_models.hpp"
#include "cpu/state.hpp"

namespace kiln {

namespace {

[[noreturn]] void refuse(std::string_view argument, const std::string& why) {
    throw std::runtime_error(fmt::format("-cpu {}: {}", argument, why));
}

std::vector<std::string_view> parts(std::string_view text) {
    std::vector<std::string_view> list;
    while (true) {
        size_t comma = text.find(',');
        list.push_back(text.substr(0, comma));
        if (comma == std::string_view::npos) return list;
        text.remove_prefix(comma + 1);
    }
}

// Features in leaves beyond the model's last one raise it, as in QEMU.
void raiseLevels(CpuModel& m) {
    auto holds = [&](CpuidWord w) { return m.features.word(w) != 0; };
    auto atLeast = [](uint32_t& level, uint32_t leaf) { level = std::max(level, leaf); };
    if (holds(CpuidWord::Leaf1Edx) || holds(CpuidWord::Leaf1Ecx)) atLeast(m.level, 1);
    if (m.has(Feature::MONITOR)) atLeast(m.level, 5);
    if (holds(CpuidWord::Leaf6Eax)) atLeast(m.level, 6);
    if (holds(CpuidWord::Leaf7Ebx) || holds(CpuidWord::Leaf7Ecx) || holds(CpuidWord::Leaf7Edx) ||
        holds(CpuidWord::Leaf7Sub1Eax))
        atLeast(m.level, 7);
    if (m.has(Feature::XSAVE)) atLeast(m.level, 0xd);
    if (holds(CpuidWord::Extended1Edx) || holds(CpuidWord::Extended1Ecx)) atLeast(m.xlevel, 0x80000001);
    if (holds(CpuidWord::Extended7Edx)) atLeast(m.xlevel, 0x80000007);
    if (holds(CpuidWord::Extended8Ebx) || m.has(Feature::LM)) atLeast(m.xlevel, 0x80000008);
}

void settle(CpuModel& m) {
    if (m.family >= 6) m.features.add(Feature::P6);
    m.features = withoutOrphans(m.features);
    m.linearBits = m.has(Feature::LA57) ? 57 : m.has(Feature::LM) ? 48 : 32;
    if (!m.has(Feature::LM))
        m.physicalBits = m.has(Feature::PAE) || m.has(Feature::PSE36) ? std::min(m.physicalBits, 36u) : 32;
    raiseLevels(m);
}

const CpuModel& named(std::string_view argument, std::string_view name) {
    static const auto kiln = kilnModel();
    if (name == "kiln" || name == "max") return *kiln;
    if (name == "host")
        refuse(argument,
               "the host's processor plays no part in kiln, which interprets every instruction; "
               "'max' has everything that kiln implements");
    auto found = std::ranges::find(namedModels(), name, &CpuModel::name);
    if (found == namedModels().end())
        refuse(argument, fmt::format("there is no model '{}' (kiln -cpu help lists them)", name));
    return *found;
}

// Properties of a model that are numbers or texts, under QEMU's names.
bool setProperty(CpuModel& m, std::string_view argument, std::string_view key, std::string_view value) {
    auto number = [&](uint64_t lowest, uint64_t highest) {
        bool hex = value.starts_with("0x") || value.starts_with("0X");
        std::string_view digits = value.substr(hex ? 2 : 0);
        uint64_t v = 0;
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v, hex ? 16 : 10);
        if (error != std::errc() || end != digits.data() + digits.size() || v < lowest || v > highest)
            refuse(argument,
                   fmt::format("{}={} is not a number from {} to {:#x}", key, value, lowest, highest));
        return v;
    };
    if (key == "family")
        m.family = unsigned(number(4, 0xff + 0xf));
    else if (key == "model")
        m.model = unsigned(number(0, 0xff));
    else if (key == "stepping")
        m.stepping = unsigned(number(0, 0xf));
    else if (key == "level")
        m.level = uint32_t(number(1, 0x16));
    else if (key == "xlevel")
        m.xlevel = uint32_t(number(0x80000000, 0x80000008));
    else if (key == "phys-bits")
        m.physicalBits = unsigned(number(32, 52));
    else if (key == "model-id")
        m.brand = value.substr(0, 48);
    else if (key == "vendor" && value.size() == 12)
        m.vendor = value;
    else if (key == "vendor")
        refuse(argument, "vendor= takes the 12 characters of CPUID leaf 0, such as GenuineIntel");
    else
        return false;
    return true;
}

struct Wishes {
    FeatureSet on, off;
    bool check = true, enforce = false;
};

void addWish(Wishes& wishes, CpuModel& m, std::string_view argument, std::string_view part) {
    std::optional<bool> on;
    std::string_view key = part;
    if (part.starts_with('+') || part.starts_with('-')) {
        on = part[0] == '+';
        key = part.substr(1);
    } else if (size_t equals = part.find('='); equals != std::string_view::npos) {
        key = part.substr(0, equals);
        std::string_view value = part.substr(equals + 1);
        if (setProperty(m, argument, key, value)) return;
        if (value != "on" && value != "off") refuse(argument, fmt::format("{}= takes on or off", key));
        on = value == "on";
    } else {
        on = true;  // a bare name, as QEMU takes it
    }
    if (key == "check" || key == "enforce") {
        (key == "check" ? wishes.check : wishes.enforce) = *on;
        return;
    }
    auto feature = featureNamed(key);
    if (!feature)
        refuse(argument, fmt::format("there is no CPU feature '{}' (kiln -cpu help lists them)", key));
    (*on ? wishes.on : wishes.off).add(*feature);
    (*on ? wishes.off : wishes.on).remove(*feature);
}

}  // namespace

uint32_t CpuModel::signature() const {
    unsigned baseFamily = std::min(family, 15u), extended = family - baseFamily;
    return extended << 20 | (model >> 4) << 16 | baseFamily << 8 | (model & 15) << 4 | stepping;
}

uint64_t CpuModel::cr4Supported() const {
    static constexpr struct {
        Feature feature;
        uint64_t bits;
    } kBits[] = {
        {Feature::VME, cr4::VME | cr4::PVI},
        {Feature::TSC, cr4::TSD},
        {Feature::DE, cr4::DE},
        {Feature::PSE, cr4::PSE},
        {Feature::PAE, cr4::PAE},
        {Feature::MCE, cr4::MCE},
        {Feature::PGE, cr4::PGE},
        {Feature::P6, cr4::PCE},
        {Feature::FXSR, cr4::OSFXSR},
        {Feature::SSE, cr4::OSXMMEXCPT},
        {Feature::UMIP, cr4::UMIP},
        {Feature::LA57, cr4::LA57},
        {Feature::FSGSBASE, cr4::FSGSBASE},
        {Feature::PCID, cr4::PCIDE},
        {Feature::XSAVE, cr4::OSXSAVE},
        {Feature::SMEP, cr4::SMEP},
        {Feature::SMAP, cr4::SMAP},
        {Feature::PKU, cr4::PKE},
        {Feature::PKS, cr4::PKS},
    };
    uint64_t all = 0;
    for (auto [feature, bits] : kBits)
        if (has(feature)) all |= bits;
    return all;
}

uint64_t CpuModel::eferSupported() const {
    return (has(Feature::SYSCALL) ? efer::SCE : 0) | (has(Feature::LM) ? efer::LME | efer::LMA : 0) |
           (has(Feature::NX) ? efer::NXE : 0) | (has(Feature::FXSR_OPT) ? efer::FFXSR : 0);
}

uint64_t CpuModel::xcr0Supported() const {
    if (!has(Feature::XSAVE)) return 0;
    return xfeature::X87 | (has(Feature::SSE) ? xfeature::SSE : 0) | (has(Feature::AVX) ? xfeature::AVX : 0) |
           (has(Feature::AVX512F) ? xfeature::AVX512 : 0) | (has(Feature::PKU) ? xfeature::PKRU : 0);
}

std::shared_ptr<const CpuModel> kilnModel() {
    static const auto model = [] {
        CpuModel m{.name = "kiln",
                   .family = 6,
                   .model = 26,
                   .stepping = 1,
                   .brand = "kiln Virtual CPU",
                   .level = 0x16,
                   .xlevel = 0x80000008,
                   .features = implementedFeatures()};
        settle(m);
        return std::make_shared<const CpuModel>(std::move(m));
    }();
    return model;
}

std::shared_ptr<const CpuModel> chooseCpuModel(std::string_view argument,
                                               std::vector<std::string>& warnings) {
    auto list = parts(argument);
    CpuModel m = named(argument, list[0]);
    m.features.add(Feature::HYPERVISOR);
    Wishes wishes;
    for (std::string_view part : std::span(list).subspan(1)) addWish(wishes, m, argument, part);
    FeatureSet wanted = (m.features | wishes.on) - wishes.off;
    wanted.remove(Feature::P6);
    FeatureSet missing = wanted - implementedFeatures();
    if (!missing.empty() && wishes.enforce)
        refuse(argument, fmt::format("kiln does not implement {}", featureNames(missing)));
    if (!missing.empty() && wishes.check)
        warnings.push_back(fmt::format("-cpu {}: left out, as kiln does not implement it: {}", argument,
                                       featureNames(missing)));
    m.features = wanted & implementedFeatures();
    settle(m);
    FeatureSet orphans = (wishes.on & implementedFeatures()) - m.features;
    if (!orphans.empty())
        warnings.push_back(fmt::format("-cpu {}: left out, as it needs features that are missing: {}",
                                       argument, featureNames(orphans)));
    return std::make_shared<const CpuModel>(std::move(m));
}

std::vector<std::string> cpuModelNames() {
    std::vector<std::string> names = {"kiln", "max"};
    for (const CpuModel& m : namedModels()) names.push_back(m.name);
    return names;
}

std::string cpuModelHelp() {
    std::string out =
        "Models:\n  kiln              everything kiln implements; the default\n"
        "  max               the same\n";
    for (const CpuModel& m : namedModels()) out += fmt::format("  {:<17} {}\n", m.name, m.brand);
    out += "\nFeatures, for -cpu MODEL,+FEATURE,-FEATURE or FEATURE=on|off:\n";
    std::string line = " ";
    for (Feature f : namedFeatures()) {
        if (!implementedFeatures().has(f)) continue;
        std::string_view name = featureName(f);
        if (line.size() + name.size() > 78) {
            out += line;
            out += '\n';
            line.assign(1, ' ');
        }
        line += fmt::format(" {}", name);
    }
    return out + line +
           "\n\nAlso: vendor=, family=, model=, stepping=, model-id=, level=, xlevel=, phys-bits=, "
           "check=on|off,\n"
           "enforce=on|off (refuse a model with features that kiln does not have).\n";
}

}  // namespace kiln
