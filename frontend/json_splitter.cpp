#include "frontend/json_splitter.hpp"

#include <utility>

namespace kiln {

namespace {

bool isBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool isQuote(char c) { return c == '"' || c == '\''; }
// What no JSON text has, not even in a string. 0xFE and 0xFF are no bytes of UTF-8.
bool isImpossible(char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0xfe;
}

}  // namespace

void JsonSplitter::restart() {
    state_ = State::Between;
    text_.clear();
    open_.clear();
}

void JsonSplitter::take(std::string_view bytes) {
    for (char c : bytes) take(c);
}

void JsonSplitter::take(char c) {
    switch (state_) {
        case State::Between: begin(c); break;
        case State::Word:  // true, 12, or nonsense: up to a blank
            if (isBlank(c))
                finish();
            else
                append(c);
            break;
        case State::Value: inValue(c); break;
        case State::String: inString(c); break;
        case State::Escape:
            // \' is none of JSON's escapes.
            if (c == '\'') text_.pop_back();
            state_ = State::String;
            append(c);
            break;
        case State::Garbage: break;
    }
    if (state_ == State::Garbage && c == '\n') restart();
}

void JsonSplitter::begin(char c) {
    if (isBlank(c)) return;
    if (isImpossible(c)) return fail("Invalid JSON syntax");
    state_ = State::Word;
    if (c == '{' || c == '[' || isQuote(c)) state_ = State::Value;
    if (state_ == State::Value)
        inValue(c);
    else
        append(c);
}

void JsonSplitter::inValue(char c) {
    if (isQuote(c)) {
        quote_ = c;
        state_ = State::String;
        return append('"');
    }
    if (isBlank(c)) return append(' ');
    if (isImpossible(c)) return fail("Invalid JSON syntax");
    if (c == '{' || c == '[') return open(c);
    if (c == '}' || c == ']') return close(c);
    append(c);
}

void JsonSplitter::inString(char c) {
    if (isImpossible(c)) return fail("Invalid JSON syntax: a string has a control character");
    if (c == quote_) {
        state_ = State::Value;
        append('"');
        if (open_.empty() && state_ == State::Value) finish();
        return;
    }
    if (c == '"') append('\\');  // inside single quotes
    append(c);
    if (c == '\\' && state_ == State::String) state_ = State::Escape;
}

void JsonSplitter::append(char c) {
    if (text_.size() >= kLongest) return fail("JSON value is too long: the limit is 1 MiB");
    text_ += c;
}

void JsonSplitter::open(char bracket) {
    if (open_.size() >= kDeepest) return fail("JSON value is nested too deeply");
    open_.push_back(bracket == '{' ? '}' : ']');
    append(bracket);
}

void JsonSplitter::close(char bracket) {
    if (open_.empty() || open_.back() != bracket) return fail("Invalid JSON syntax: brackets don't match");
    open_.pop_back();
    append(bracket);
    if (open_.empty() && state_ == State::Value) finish();
}

void JsonSplitter::finish() {
    const std::string text = std::exchange(text_, {});
    restart();
    hooks_.value(text);
}

void JsonSplitter::fail(const std::string& why) {
    restart();
    state_ = State::Garbage;
    hooks_.error(why);
}

}  // namespace kiln
