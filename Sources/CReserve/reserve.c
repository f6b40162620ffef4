// malloc, calloc and realloc, as the rest of the daemon, its language and libuv call them. Swift
// ends the process where malloc returns NULL, so small objects of the language draw on the reserve.
// What CSmalloc asks for can fail and does not, nor does anything large.
#define _GNU_SOURCE
#include "CReserve.h"
#include "CSmalloc.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

// A sanitizer has its own malloc, and can't stand another.
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

// Blocks of at least this size are not given out of the reserve.
static const size_t large = 64 << 10;

// What comes next in the order of libraries: the C library's, or that of a library loaded before it.
// malloc can be called before any constructor was.
static void *next(_Atomic(void *) *function, const char *name) {
    void *found = atomic_load_explicit(function, memory_order_relaxed);
    if (!found) {
        found = dlsym(RTLD_NEXT, name);
        atomic_store_explicit(function, found, memory_order_relaxed);
    }
    return found;
}

static _Atomic(void *) next_malloc, next_calloc, next_realloc;

static bool may_draw(size_t size) { return size < large && !smalloc_may_fail; }

void *malloc(size_t size) {
    void *(*function)(size_t) = next(&next_malloc, "malloc");
    void *block = function(size);
    if (block || !may_draw(size)) return block;
    smalloc_lock_reserve();
    smalloc_spend_reserve();
    block = function(size);
    smalloc_unlock_reserve();
    return block;
}

void *calloc(size_t count, size_t size) {
    void *(*function)(size_t, size_t) = next(&next_calloc, "calloc");
    void *block = function(count, size);
    size_t whole;
    if (block || __builtin_mul_overflow(count, size, &whole) || !may_draw(whole)) return block;
    smalloc_lock_reserve();
    smalloc_spend_reserve();
    block = function(count, size);
    smalloc_unlock_reserve();
    return block;
}

void *reserve_reallocate(void *old, size_t size) {
    void *(*function)(void *, size_t) = next(&next_realloc, "realloc");
    void *block = function(old, size);
    // realloc of a block to no bytes frees it.
    if (block || size == 0) return block;
    smalloc_lock_reserve();
    smalloc_spend_reserve();
    block = function(old, size);
    smalloc_unlock_reserve();
    return block;
}

void *realloc(void *old, size_t size) {
    if (may_draw(size)) return reserve_reallocate(old, size);
    void *(*function)(void *, size_t) = next(&next_realloc, "realloc");
    return function(old, size);
}

#else

void *reserve_reallocate(void *old, size_t size) { return realloc(old, size); }

#endif
