// What Swift can't import from the C library: function macros and calls hidden behind _GNU_SOURCE.
#ifndef CSMALLOC_H
#define CSMALLOC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Sleeps while `*word` is `expected`; wakes on `smalloc_futex_wake`, on a signal, or for no reason.
void smalloc_futex_wait(uint32_t *word, uint32_t expected);
/// Wakes one thread that sleeps on `word`.
void smalloc_futex_wake(uint32_t *word);

/// `malloc_usable_size`: bytes that a block of malloc really has.
size_t smalloc_usable_size(void *block);

/// The one way to memory whose size or number a client chooses: `malloc` that may fail.
///
/// Tests make it fail by defining `smalloc_fault`.
void *_Nullable smalloc_allocate(size_t size);
/// The same for `realloc`; the old block stays when it fails.
void *_Nullable smalloc_reallocate(void *_Nullable block, size_t size);

/// What `smalloc_fault` is asked about.
enum smalloc_fault_kind { SMALLOC_FAULT_ALLOCATE = 1 };
/// Whether the next call of that kind has to fail. Defined by tests alone.
int smalloc_fault(int kind) __attribute__((weak));

/// Gives free pages of the heap back to the kernel. Holds up threads that allocate meanwhile.
void smalloc_heap_trim(void);

/// Whether this was built for AddressSanitizer, which watches over malloc's memory alone.
bool smalloc_is_sanitized(void);

/// Begins to bring the cache line of an address in, which need not be there: it reads nothing.
static inline void smalloc_prefetch(uintptr_t address) {
    __builtin_prefetch((const void *)address);
}

/// Copies much memory past the caches, at up to twice the speed of a copy through them.
///
/// The two must not overlap.
void smalloc_copy_streaming(void *dest, const void *source, size_t size);

/// `accept4` without an address, non-blocking and close-on-exec: a descriptor, or -1 and errno.
int smalloc_accept(int listener);

/// `SO_PEERCRED`: who connected a Unix socket. False and errno, if the kernel does not say.
bool smalloc_peer_user(int socket, uid_t *user);

/// The variables of the environment, `NAME=value` each, ended by NULL.
char **smalloc_environment(void);

/// Tells the core that this thread spins.
static inline void smalloc_spin_hint(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
