// Memory from the system, by calls that can fail, and that a test can make fail.
#define _GNU_SOURCE
#include "CSmalloc.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

// A test library defines it; in the daemon it is null.
extern int smalloc_fault(int kind) __attribute__((weak));

static bool fails(int kind) {
    if (!smalloc_fault || !smalloc_fault(kind)) return false;
    errno = ENOMEM;
    return true;
}

// Whether a call that takes memory has to fail before it is tried: while the reserve is spent, too.
static bool is_refused(int kind) {
    if (fails(kind)) return true;
    if (smalloc_keep_reserve()) return false;
    errno = ENOMEM;
    return true;
}

void *smalloc_allocate(size_t size) { return smalloc_reallocate(NULL, size); }

void *smalloc_reallocate(void *block, size_t size) {
    if (is_refused(SMALLOC_FAULT_ALLOCATE)) return NULL;
    smalloc_may_fail = true;
    void *grown = realloc(block, size);
    smalloc_may_fail = false;
    return grown;
}

void *smalloc_allocate_zeroed(size_t size) {
    if (is_refused(SMALLOC_FAULT_ALLOCATE)) return NULL;
    smalloc_may_fail = true;
    void *block = calloc(1, size);
    smalloc_may_fail = false;
    return block;
}

void *smalloc_map(size_t size) {
    if (is_refused(SMALLOC_FAULT_MAP)) return NULL;
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

void *smalloc_map_aligned(size_t size, size_t alignment) {
    char *start = smalloc_map(size + alignment);
    if (!start) return NULL;
    size_t lead = -(uintptr_t)start & (alignment - 1);
    // What can't be cut off stays: addresses that are never touched. They are given back with
    // nothing, so it happens only where the kernel is out of mappings, and the caller stops before.
    if (lead > 0) munmap(start, lead);
    if (alignment - lead > 0) munmap(start + lead + size, alignment - lead);
    return start + lead;
}

bool smalloc_unmap(void *start, size_t size) {
    return !fails(SMALLOC_FAULT_UNMAP) && munmap(start, size) == 0;
}

bool smalloc_return_pages(void *start, size_t size) {
    return !fails(SMALLOC_FAULT_ADVISE) && madvise(start, size, MADV_DONTNEED) == 0;
}

bool smalloc_remove_pages(void *start, size_t size) {
    return !fails(SMALLOC_FAULT_ADVISE) && madvise(start, size, MADV_REMOVE) == 0;
}

bool smalloc_welcome_huge(void *start, size_t size, bool is_welcome) {
    if (fails(SMALLOC_FAULT_ADVISE)) return false;
    // A kernel that has no huge pages does not know the word, and keeps to it.
    return madvise(start, size, is_welcome ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0
        || errno == EINVAL;
}

bool smalloc_start_thread(void *(*body)(void *), void *context) {
    pthread_t thread;
    if (fails(SMALLOC_FAULT_THREAD) || pthread_create(&thread, NULL, body, context) != 0) return false;
    pthread_detach(thread);
    return true;
}

bool smalloc_prepare_heap(void) {
    // 32 MiB is the most that the C library takes. By default a block of 128 KiB is a mapping of
    // its own, of which the kernel allows a process only so many.
    bool is_set = mallopt(M_MMAP_THRESHOLD, 32 << 20) == 1;
    // Else each thread has an arena of its own, and keeps what others might use: the reserve, too.
    is_set &= mallopt(M_ARENA_MAX, 1) == 1;
    // Else whatever is freed at the end of the heap goes back at once, and is asked for again.
    is_set &= mallopt(M_TRIM_THRESHOLD, 4 << 20) == 1;
    return is_set;
}

void smalloc_touch_stack(void) {
    char pages[256 << 10];
    for (size_t at = 0; at < sizeof pages; at += 4096) *(volatile char *)&pages[at] = 0;
}
