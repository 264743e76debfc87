// The machine protocol: query-qmp-schema, which says what there is to ask and to say (QEMU's
// qapi/introspect.json). It is made from the tables of commands. Of what comes back it says "any": the tables
// don't tell.
#include <fmt/format.h>

#include "frontend/qmp_tables.hpp"

namespace kiln {

namespace {

class Schema {
  public:
    Json make() {
        for (const auto& [name, json] : kBuiltins)
            list_.push_back({{"name", name}, {"meta-type", "builtin"}, {"json-type", json}});
        list_.push_back({{"name", "[any]"}, {"meta-type", "array"}, {"element-type", "any"}});
        list_.push_back({{"name", kNothing}, {"meta-type", "object"}, {"members", Json::array()}});
        for (QmpTable table : qmpCommands())
            for (const QmpCommand& c : table) command(c);
        events();
        return std::move(list_);
    }

  private:
    static constexpr const char* kNothing = "0";
    static constexpr std::pair<const char*, const char*> kBuiltins[] = {
        {"str", "string"}, {"int", "int"}, {"bool", "boolean"}, {"any", "value"}};

    std::string add(Json type) {
        std::string name = std::to_string(++types_);
        type["name"] = name;
        list_.push_back(std::move(type));
        return name;
    }

    template <class Strings>
    std::string enumeration(const Strings& values) {
        Json members = Json::array(), texts = Json::array();
        for (const auto& v : values) {
            members.push_back({{"name", v}});
            texts.push_back(v);
        }
        return add({{"meta-type", "enum"}, {"members", members}, {"values", texts}});
    }

    std::string typeOf(const QmpArgument& a) {
        if (const auto choices = a.choices(); !choices.empty()) return enumeration(choices);
        if (a.type == "list") return "[any]";
        return a.type == "object" ? "any" : std::string(a.type);
    }

    void command(const QmpCommand& c) {
        Json members = Json::array();
        for (const QmpArgument& a : qmpArguments(c)) {
            Json member = {{"name", a.name}, {"type", typeOf(a)}};
            if (a.optional) member["default"] = nullptr;
            members.push_back(member);
        }
        const std::string arguments =
            members.empty() ? kNothing : add({{"meta-type", "object"}, {"members", members}});
        list_.push_back(
            {{"name", c.name}, {"meta-type", "command"}, {"arg-type", arguments}, {"ret-type", "any"}});
    }

    void events() {
        const Json members = {{{"name", "guest"}, {"type", "bool"}},
                              {{"name", "reason"}, {"type", enumeration(qmpCauses())}}};
        const std::string ends = add({{"meta-type", "object"}, {"members", members}});
        for (const char* name : qmpEvents()) {
            const bool end = std::string_view(name) == "RESET" || std::string_view(name) == "SHUTDOWN";
            list_.push_back({{"name", name}, {"meta-type", "event"}, {"arg-type", end ? ends : kNothing}});
        }
    }

    Json list_ = Json::array();
    unsigned types_ = 0;
};

Json querySchema(Monitor&, const Json&) { return Schema().make(); }

}  // namespace

QmpTable qmpSchemaCommands() {
    static constexpr QmpCommand kRows[] = {{"query-qmp-schema", "", querySchema}};
    return kRows;
}

}  // namespace kiln
