// What Swift can't import from the C library: function macros and calls hidden behind _GNU_SOURCE.
#ifndef CSMALLOC_H
#define CSMALLOC_H
#include <stdint.h>

/// Sleeps while `*word` is `expected`; wakes on `smalloc_futex_wake`, on a signal, or for no reason.
void smalloc_futex_wait(uint32_t *word, uint32_t expected);
/// Wakes one thread that sleeps on `word`.
void smalloc_futex_wake(uint32_t *word);

#endif
