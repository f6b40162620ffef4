#define _GNU_SOURCE
#include "CSmalloc.h"

#include <linux/futex.h>
#include <malloc.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void smalloc_futex_wait(uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, (void *)0, (void *)0, 0);
}

void smalloc_futex_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, (void *)0, (void *)0, 0);
}

size_t smalloc_usable_size(void *block) {
    return malloc_usable_size(block);
}

int smalloc_accept(int listener) {
    return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

char **smalloc_environment(void) {
    return environ;
}

void smalloc_heap_trim(void) {
    malloc_trim(0);
}

bool smalloc_is_sanitized(void) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#endif
#endif
    return false;
}
