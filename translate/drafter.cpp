#include "translate/drafter.hpp"

#include <exception>
#include <set>

#include "translate/emitter.hpp"

namespace kiln {

bool Drafter::write(Draft& draft, const CodeTerms& terms, const Surroundings& surroundings,
                    std::span<const CodeStep> steps, uint16_t trace, uint32_t ip,
                    const std::function<void(BlockEmitter&)>& how) {
    std::set<unsigned> refused;
    for (;;) {
        draft.reset();
        const EmitterContext context{terms, shapes_, trace, refused, decoded_, surroundings, ip};
        BlockEmitter emitter(draft, context, steps);
        try {
            how(emitter);
            using Part = HostAssembler::Part;
            return draft.code.bytes(Part::Main).size() + draft.code.bytes(Part::Cold).size() <= kMostCode;
        } catch (const std::exception&) {
            // This form has no encoding with the host's registers.
            if (!refused.insert(emitter.index()).second) return false;
        }
    }
}

}  // namespace kiln
