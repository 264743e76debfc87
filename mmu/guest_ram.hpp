// How processors and bus masters touch guest RAM, which several host threads may do at once (SDM vol. 3, 9.2:
// the order other processors see). Accesses of up to eight bytes are single host accesses, so that aligned ones
// are never torn; wider ones and bulk copies are sequences of them. x86 hosts give the guest's ordering by
// themselves; others load with acquire and store with release.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define KILN_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KILN_THREAD_SANITIZER 1
#endif
#endif

namespace kiln {

namespace guest_ram {

#if KILN_THREAD_SANITIZER
constexpr bool kAtomicBulk = true;  // the sanitizer takes a memcpy for a race; this is slow, and equal
#else
constexpr bool kAtomicBulk = false;
#endif

template <unsigned Size>
struct WordOf;
template <>
struct WordOf<1> {
    using Type [[gnu::may_alias]] = uint8_t;
};
template <>
struct WordOf<2> {
    using Type [[gnu::may_alias]] = uint16_t;
};
template <>
struct WordOf<4> {
    using Type [[gnu::may_alias]] = uint32_t;
};
template <>
struct WordOf<8> {
    using Type [[gnu::may_alias]] = uint64_t;
};

template <unsigned Size>
constexpr bool kIsWord = Size == 1 || Size == 2 || Size == 4 || Size == 8;

template <unsigned Size>
[[gnu::always_inline]] inline auto loadWord(const void* p) {
    using Word = typename WordOf<Size>::Type;
#if defined(__x86_64__) || defined(__i386__)
    return __atomic_load_n(static_cast<const Word*>(p), __ATOMIC_RELAXED);
#else
    if (reinterpret_cast<uintptr_t>(p) % Size == 0)
        return __atomic_load_n(static_cast<const Word*>(p), __ATOMIC_ACQUIRE);
    Word v;
    std::memcpy(&v, p, Size);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return v;
#endif
}

template <unsigned Size, class Word>
[[gnu::always_inline]] inline void storeWord(void* p, Word v) {
    using To = typename WordOf<Size>::Type;
#if defined(__x86_64__) || defined(__i386__)
    __atomic_store_n(static_cast<To*>(p), To(v), __ATOMIC_RELAXED);
#else
    if (reinterpret_cast<uintptr_t>(p) % Size == 0) {
        __atomic_store_n(static_cast<To*>(p), To(v), __ATOMIC_RELEASE);
        return;
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    std::memcpy(p, &v, Size);
#endif
}

// Copies word by word; `Load` and `Store` say which side is guest memory. Upward.
template <bool Load, bool Store>
inline void copyWords(void* to, const void* from, uint64_t size) {
    auto* t = static_cast<uint8_t*>(to);
    auto* f = static_cast<const uint8_t*>(from);
    while (size) {
        const uint64_t guest = reinterpret_cast<uintptr_t>(Load ? static_cast<const void*>(f) : t);
        const unsigned n = size >= 8 && guest % 8 == 0 && (!(Load && Store) || uint64_t(t - f) >= 8) ? 8 : 1;
        uint64_t v = 0;
        if constexpr (Load) {
            v = n == 8 ? loadWord<8>(f) : loadWord<1>(f);
        } else {
            std::memcpy(&v, f, n);
        }
        if constexpr (Store) {
            if (n == 8)
                storeWord<8>(t, v);
            else
                storeWord<1>(t, v);
        } else {
            std::memcpy(t, &v, n);
        }
        t += n, f += n, size -= n;
    }
}

// Sizes that the host can compare and exchange in one step.
#if defined(__x86_64__)
template <unsigned Size>
constexpr bool kHasAtomic = kIsWord<Size> || Size == 16;
#else
template <unsigned Size>
constexpr bool kHasAtomic = kIsWord<Size>;
#endif

}  // namespace guest_ram

// What was written before is seen by others before anything is read after it: MFENCE, and what serializes.
inline void fenceGuest() {
#if KILN_THREAD_SANITIZER
    int nothing = 0;  // the sanitizer knows no fences; a locked exchange is one
    __atomic_exchange_n(&nothing, 1, __ATOMIC_SEQ_CST);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

// -- bulk: `from` or `to` (or both) is guest memory
inline void copyFromGuest(void* to, const void* from, uint64_t size) {
    if constexpr (guest_ram::kAtomicBulk)
        guest_ram::copyWords<true, false>(to, from, size);
    else
        std::memcpy(to, from, size);
}
inline void copyToGuest(void* to, const void* from, uint64_t size) {
    if constexpr (guest_ram::kAtomicBulk)
        guest_ram::copyWords<false, true>(to, from, size);
    else
        std::memcpy(to, from, size);
}
// From lower to higher addresses where the two overlap with `to` below `from`; else any order.
inline void moveInGuest(void* to, const void* from, uint64_t size) {
    if constexpr (guest_ram::kAtomicBulk)
        guest_ram::copyWords<true, true>(to, from, size);
    else
        std::memmove(to, from, size);
}
inline void fillGuest(void* to, uint8_t byte, uint64_t size) {
    if constexpr (guest_ram::kAtomicBulk)
        for (uint64_t n = 0; n < size; n++) guest_ram::storeWord<1>(static_cast<uint8_t*>(to) + n, byte);
    else
        std::memset(to, byte, size);
}

// -- single accesses
template <class T>
[[gnu::always_inline]] inline T loadGuest(const void* p) {
    T v;
    if constexpr (guest_ram::kIsWord<sizeof(T)>) {
        auto word = guest_ram::loadWord<sizeof(T)>(p);
        std::memcpy(&v, &word, sizeof v);
    } else {
        copyFromGuest(&v, p, sizeof v);
    }
    return v;
}
template <class T>
[[gnu::always_inline]] inline void storeGuest(void* p, const T& v) {
    if constexpr (guest_ram::kIsWord<sizeof(T)>) {
        typename guest_ram::WordOf<sizeof(T)>::Type word;
        std::memcpy(&word, &v, sizeof v);
        guest_ram::storeWord<sizeof(T)>(p, word);
    } else {
        copyToGuest(p, &v, sizeof v);
    }
}
#if defined(__x86_64__)
// CMPXCHG16B is on every processor that this is likely to meet; the compiler wants to be told.
[[gnu::target("cx16"), gnu::noinline]] inline bool compareExchange16(void* p, unsigned __int128& seen,
                                                                    unsigned __int128 fresh) {
    unsigned __int128 was = __sync_val_compare_and_swap(static_cast<unsigned __int128*>(p), seen, fresh);
    bool done = was == seen;
    seen = was;
    return done;
}
#endif

// Puts `fresh` in the place of `seen` when that is what is there; else `seen` becomes what is. Aligned.
template <class T>
inline bool compareExchangeGuest([[maybe_unused]] void* p, [[maybe_unused]] T& seen,
                                 [[maybe_unused]] T fresh) {
    if constexpr (guest_ram::kIsWord<sizeof(T)>)
        return __atomic_compare_exchange_n(static_cast<T*>(p), &seen, fresh, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
#if defined(__x86_64__)
    else
        return compareExchange16(p, seen, fresh);
#else
    else
        return false;
#endif
}

// An access of a size known only at run time: single when it is a register's.
inline void readGuest(void* out, const void* p, uint64_t size) {
    switch (size) {
        case 1: storeGuest(out, loadGuest<uint8_t>(p)); break;
        case 2: storeGuest(out, loadGuest<uint16_t>(p)); break;
        case 4: storeGuest(out, loadGuest<uint32_t>(p)); break;
        case 8: storeGuest(out, loadGuest<uint64_t>(p)); break;
        default: copyFromGuest(out, p, size);
    }
}
inline void writeGuest(void* p, const void* in, uint64_t size) {
    switch (size) {
        case 1: storeGuest(p, loadGuest<uint8_t>(in)); break;
        case 2: storeGuest(p, loadGuest<uint16_t>(in)); break;
        case 4: storeGuest(p, loadGuest<uint32_t>(in)); break;
        case 8: storeGuest(p, loadGuest<uint64_t>(in)); break;
        default: copyToGuest(p, in, size);
    }
}

}  // namespace kiln
