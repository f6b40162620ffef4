// Atomic instructions on raw memory, most of them by number: what an `atomic` request may ask for. In
// C, for a cell is found at run time, of any size, and Swift's atomics are types.
#include "CSmalloc.h"

#define ACT(type)                                                                                   \
    static uint64_t act_##type(type *cell, uint32_t action, type operand, type expected) {          \
        switch (action) {                                                                           \
        case 2: /* store: the reply tells what was there */                                         \
        case 8: return __atomic_exchange_n(cell, operand, __ATOMIC_SEQ_CST);                        \
        case 3: return __atomic_fetch_add(cell, operand, __ATOMIC_SEQ_CST);                         \
        case 4: return __atomic_fetch_sub(cell, operand, __ATOMIC_SEQ_CST);                         \
        case 5: return __atomic_fetch_and(cell, operand, __ATOMIC_SEQ_CST);                         \
        case 6: return __atomic_fetch_or(cell, operand, __ATOMIC_SEQ_CST);                          \
        case 7: return __atomic_fetch_xor(cell, operand, __ATOMIC_SEQ_CST);                         \
        case 9:                                                                                     \
            __atomic_compare_exchange_n(                                                            \
                cell, &expected, operand, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
            return expected;                                                                        \
        default: return __atomic_load_n(cell, __ATOMIC_SEQ_CST);                                    \
        }                                                                                           \
    }

ACT(uint8_t)
ACT(uint16_t)
ACT(uint32_t)
ACT(uint64_t)

static uint64_t act(
    void *cell, uint32_t size, uint32_t action, uint64_t operand, uint64_t expected) {
    switch (size) {
    case 1: return act_uint8_t(cell, action, (uint8_t)operand, (uint8_t)expected);
    case 2: return act_uint16_t(cell, action, (uint16_t)operand, (uint16_t)expected);
    case 4: return act_uint32_t(cell, action, (uint32_t)operand, (uint32_t)expected);
    default: return act_uint64_t(cell, action, operand, expected);
    }
}

uint64_t smalloc_atomic(void *cell, uint32_t size, bool is_signed, uint32_t action,
    uint64_t operand, uint64_t expected) {
    uint64_t old = act(cell, size, action, operand, expected);
    if (!is_signed) return old;
    uint32_t unused = 64 - 8 * size;
    return (uint64_t)((int64_t)(old << unused) >> unused);
}

// An exchange with what is there: compilers make a load of an addition of nothing.
void smalloc_touch(void *byte, bool is_writable) {
    uint8_t old = __atomic_load_n((volatile uint8_t *)byte, __ATOMIC_RELAXED);
    if (!is_writable) return;
    __atomic_compare_exchange_n(
        (uint8_t *)byte, &old, old, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
