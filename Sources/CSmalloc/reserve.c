// Memory that is set aside at the start, so that what can't fail goes on where there is no more.
//
// It is a block of the heap: to spend it is to free it, and what needs memory then gets a part of
// it. While it is spent all that can fail does, so that it is left to what can't, and until it could
// be taken back as a whole.
#define _GNU_SOURCE
#include "CSmalloc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

_Thread_local bool smalloc_may_fail;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(void *) reserve;
// 0: none is wanted, as in a client.
static atomic_size_t reserve_size;

void smalloc_lock_reserve(void) { pthread_mutex_lock(&lock); }

void smalloc_unlock_reserve(void) { pthread_mutex_unlock(&lock); }

static void *take(size_t size) {
    bool before = smalloc_may_fail;
    smalloc_may_fail = true;
    void *block = malloc(size);
    smalloc_may_fail = before;
    return block;
}

bool smalloc_set_reserve(size_t size) {
    smalloc_lock_reserve();
    atomic_store(&reserve_size, size);
    if (!atomic_load(&reserve)) atomic_store(&reserve, take(size));
    bool is_there = atomic_load(&reserve);
    smalloc_unlock_reserve();
    return is_there;
}

void smalloc_spend_reserve(void) {
    free(atomic_exchange(&reserve, NULL));
}

bool smalloc_keep_reserve(void) {
    if (atomic_load_explicit(&reserve, memory_order_relaxed)) return true;
    size_t size = atomic_load_explicit(&reserve_size, memory_order_relaxed);
    return size == 0 || smalloc_set_reserve(size);
}
