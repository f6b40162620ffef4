#define _GNU_SOURCE
#include "CSmalloc.h"

#include <linux/futex.h>
#include <malloc.h>
#include <string.h>
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

bool smalloc_peer_user(int socket, uid_t *user) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    *user = peer.uid;
    return true;
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

#if defined(__x86_64__)
typedef long long vector __attribute__((vector_size(16)));
typedef long long unaligned_vector __attribute__((vector_size(16), aligned(1)));

void smalloc_copy_streaming(void *dest, const void *source, size_t size) {
    char *to = dest;
    const char *from = source;
    size_t lead = -(uintptr_t)to & 15;
    if (lead > size) lead = size;
    memcpy(to, from, lead);
    to += lead;
    from += lead;
    size -= lead;
    for (; size >= 64; size -= 64, to += 64, from += 64) {
        const unaligned_vector *in = (const unaligned_vector *)from;
        vector *out = (vector *)to;
        vector a = in[0], b = in[1], c = in[2], d = in[3];
        // The hardware's own prefetching stops at each page. What lies beyond the end is not read.
        __builtin_prefetch(from + 1024, 0, 0);
        __builtin_nontemporal_store(a, out);
        __builtin_nontemporal_store(b, out + 1);
        __builtin_nontemporal_store(c, out + 2);
        __builtin_nontemporal_store(d, out + 3);
    }
    // Such stores are not ordered with what follows until told so.
    __builtin_ia32_sfence();
    memcpy(to, from, size);
}
#else
void smalloc_copy_streaming(void *dest, const void *source, size_t size) {
    memcpy(dest, source, size);
}
#endif
