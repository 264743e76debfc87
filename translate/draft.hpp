// Host code that has no place yet, with its sites, numbered from 0: CodeStore::place() gives both.
#pragma once
#include <vector>

#include "translate/host_assembler.hpp"
#include "translate/site.hpp"

namespace kiln {

struct Draft {
    // A place in a site that is a label of the code.
    struct Fixup {
        size_t site;
        asmjit::Label label;
        uint32_t Site::*place;
    };
    HostAssembler code;
    std::vector<Site> sites;  // those without a block are of the one that the code is for
    std::vector<Fixup> fixups;
    std::vector<uint16_t> starts;  // of each instruction's code in the main part

    void reset() {
        code.reset();
        sites.clear();
        fixups.clear();
        starts.clear();
    }
};

}  // namespace kiln
